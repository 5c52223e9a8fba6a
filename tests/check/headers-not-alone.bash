#!/usr/bin/env bash
# expected: src/os.h: does not compile alone by gcc
# A header that needs another before it.
sed -i '/include/d' src/os.h
