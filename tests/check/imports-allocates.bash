#!/usr/bin/env bash
# expected: src/os uses strdup
# The C library's strdup mallocs.
cat >>src/os.c <<'END'

char *os_name(void);

char *os_name(void) {
    return strdup(memory);
}
END
