#!/usr/bin/env bash
# gcc's compiler proper, one process: cc1plus on C++ that is heavy in templates, cc1 on a long C file. The source is
# preprocessed beforehand. The operation is the whole compilation.
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=(gcc:gcc g++:g++ libc6-dev:/usr/include/stdio.h time:/usr/bin/time)
CASES=(cc1plus cc1)

# Functions that differ, so that no pass can treat two as one.
generate() {
    awk -v functions="$1" 'BEGIN {
        print "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>"
        for (i = 0; i < functions; i++) {
            printf "struct s%d { int a[%d]; struct s%d *next; char *name; };\n", i, i % 50 + 1, i
            printf "int f%d(struct s%d *s, int n) {\n    int sum = %d;\n", i, i, i
            printf "    for (struct s%d *p = s; p; p = p->next)\n", i
            printf "        for (int k = 0; k < %d; k++)\n", i % 50 + 1
            printf "            sum += p->a[k] * (n ^ k) %% %d + (int) strlen(p->name);\n", i % 97 + 2
            printf "    switch (n) {\n"
            for (k = 0; k < 12; k++)
                printf "    case %d: sum ^= printf(\"%d of %%d\", sum); break;\n", k * (i % 7 + 1), k
            printf "    }\n    return %s;\n}\n", i ? "sum > n ? f" (i - 1) "(NULL, sum / 2) : sum" : "sum"
        }
    }'
}

measure() {
    local compiler
    live 384
    case $CASE in
    cc1plus) compiler=g++ && cp "$HERE/templates.cc" "$WORK/source.cc" ;;
    cc1) compiler=gcc && generate $((LIVE * 3 / 4)) >"$WORK/source.c" ;;
    esac
    load "$TMP/preprocessor" "$compiler" -E -o preprocessed "$(basename "$WORK"/source.*)"
    batch "$CASE" "$("$compiler" -print-prog-name="$CASE")" -fpreprocessed -quiet -O2 preprocessed -o assembly
    grep -q '\.globl' "$WORK/assembly" || failed "$TMP/err" "no assembly"
    result
}

main "$@"
