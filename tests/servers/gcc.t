#!/usr/bin/env bash
# gcc and g++: they build this project's library, and a C++ program heavy in templates, which then runs as
# well. Every object, the linked library and the archive are the same, byte for byte, as those that they make
# on glibc.
set -u
source "$(dirname "$0")/lib.sh"
begin gcc gcc:gcc g++:g++ make:make binutils:ld libc6-dev:/usr/include/stdio.h
live 384 384

round() {
    # Debugging information holds the directory, which differs between the rounds.
    local flags="-ffile-prefix-map=$WORK=round"
    cp -r "$TMP/tree" "$WORK"
    run project cc1 make -C tree -j2 CC=gcc CFLAGS="$flags" LDFLAGS= all
    run templates cc1plus g++ -std=c++17 -O2 "$flags" -pthread "$HERE/gcc.cc" -o templates
    run program templates "$WORK/templates" 64
    (cd "$WORK" && find tree templates -name '*.o' -o -name '*.so' -o -name '*.a' -o -name templates | sort |
        xargs sha256sum) >"$WORK/sums"
}

mkdir "$TMP/tree"
cp -r "$ROOT"/{Makefile,include,src,arena} "$TMP/tree"
both round
diag "$(grep -c '\.o$' "$TMP/glibc/sums") objects"
same "every object" sums
same "what the C++ program computed" log/program.out
finish
