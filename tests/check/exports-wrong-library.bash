#!/usr/bin/env bash
# expected: build/libcadastre.so defines unmap
# Preloaded, it would take the place of a program's own.
printf '\n__attribute__((visibility("default"))) int unmap(void *mapping);\n
__attribute__((visibility("default"))) int unmap(void *mapping) {\n    return mapping == 0;\n}\n' >>src/os.c
