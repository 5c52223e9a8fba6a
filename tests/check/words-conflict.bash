#!/usr/bin/env bash
# expected: src/os.c:1:<<<<<<< HEAD
# The remains of a merge.
sed -i '1i <<<<<<< HEAD' src/os.c
