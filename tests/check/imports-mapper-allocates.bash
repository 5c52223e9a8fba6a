#!/usr/bin/env bash
# expected: src/mapper/memory_mapper uses malloc
# It is to work with any allocator, and before there is one.
sed -i -e '1i #include <stdlib.h>' -e 's/munmap(mapping, 1)/malloc(1) == mapping/' src/mapper/memory_mapper.c
