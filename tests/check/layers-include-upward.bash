#!/usr/bin/env bash
# expected: src/os (rank 3) includes arena/arena (rank 8)
# A low unit includes a high one.
sed -i '1i #include "arena.h"' src/os.c
