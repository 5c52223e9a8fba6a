#!/usr/bin/env bash
# expected: build/libcadastre.a defines os_take
# An archive whose internal symbols would clash with a program's own.
ar rcs build/libcadastre.a build/release/src/os.o
