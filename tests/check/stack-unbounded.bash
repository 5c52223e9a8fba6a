#!/usr/bin/env bash
# expected: os_take: a frame without a bound
sed -i 's/^    return memset/    __asm__ volatile("" : : "r"(__builtin_alloca(size)) : "memory");\n&/' src/os.c
