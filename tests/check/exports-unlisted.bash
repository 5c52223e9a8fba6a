#!/usr/bin/env bash
# expected: build/libcadastre.so defines arena_refill
# A symbol that was not hidden.
sed -i 's/^void/__attribute__((visibility("default"))) void/' arena/arena.c
