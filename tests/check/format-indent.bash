#!/usr/bin/env bash
# expected: src/os.c:7: differs
# Two spaces where the style has four.
sed -i 's/^    return/  return/' src/os.c
