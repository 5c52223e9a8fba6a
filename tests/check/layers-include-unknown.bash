#!/usr/bin/env bash
# expected: src/os.c includes ../lib/list.h, which is no header
# A header from outside the three directories.
mkdir lib
touch lib/list.h
sed -i '1i #include "../lib/list.h"' src/os.c
