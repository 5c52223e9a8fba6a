#!/usr/bin/env bash
# expected: os_take: calls through a pointer
cat >>src/os.h <<'END_OF_HEADER'
extern void (*os_hook)(void);
END_OF_HEADER
sed -i 's/^static char memory.*/&\n\nvoid (*os_hook)(void);/; s/^    return memset/    os_hook();\n&/' src/os.c
