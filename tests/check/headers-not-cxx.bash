#!/usr/bin/env bash
# expected: include/cadastre.h: does not compile alone by g++
# A public header that a C++ program cannot include.
sed -i 's/(size_t size)/(size_t new)/' include/cadastre.h
