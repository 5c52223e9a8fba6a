#!/usr/bin/env bash
# expected: src/malloc.c:1: differs
# Includes that are not sorted.
sed -i '1{h;d};2G' src/malloc.c
