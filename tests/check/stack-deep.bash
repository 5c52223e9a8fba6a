#!/usr/bin/env bash
# expected: cadastre_malloc: 4
# No frame is too large, but what malloc comes to is, summed up.
sed -i 's/^    return os_take/    char name[2100];\n    __asm__ volatile("" : : "r"(name) : "memory");\n&/' arena/arena.c
sed -i 's/^    return memset/    char line[2100];\n    __asm__ volatile("" : : "r"(line) : "memory");\n&/' src/os.c
