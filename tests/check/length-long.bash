#!/usr/bin/env bash
# expected: src/os.c: 613 lines
# A file that has grown too long.
yes '' | head -n 604 >>src/os.c
