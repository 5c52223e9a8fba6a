#!/usr/bin/env bash
# expected: src/os.c:1:
# Work that was left for later.
sed -i '1i // TODO: give memory back' src/os.c
