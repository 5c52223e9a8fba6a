#!/usr/bin/env bash
# expected: src/os.c:forget: called by nobody
# What its owner is not known to call would be left out of every chain.
cat >>src/os.c <<'END_OF_CODE'

static void forget(void) {
    memory[0] = 0;
}

extern void (*const os_hook)(void);
void (*const os_hook)(void) = forget;
END_OF_CODE
