#!/usr/bin/env bash
# expected: arena/arena uses printf
# stdio takes a lock, and allocates its buffer.
sed -i -e '1i #include <stdio.h>' -e 's/^    return/    printf("%zu\\n", size);\n    return/' arena/arena.c
