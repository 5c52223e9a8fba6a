#!/usr/bin/env bash
# usage: tests/api/static.t
# Links a program that uses every name with build/libcadastre.a: fully static, static and position-independent, and
# into a dynamic program. Each must link without a doubled or missing symbol, run, and hold no allocator but ours.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

program=$ROOT/tests/api/programs/every_name.c
archive=$BUILD/libcadastre.a

# glibc's own malloc would come in with these; both are local to its malloc.o.
holds_one_allocator() {
    ! nm "$1" | grep -E ' _int_malloc$| sysmalloc$'
}

runs_fine() {
    "$1" >"$WORK/out" 2>"$WORK/err" && contains fine "$WORK/out"
}

for mode in -static -static-pie -pie; do
    ok "$mode: links" compile "$mode" -Wl,--fatal-warnings "$program" "$archive" -pthread -o "$WORK/program$mode" &&
        ok "$mode: runs" runs_fine "$WORK/program$mode"
    [ "$mode" = -pie ] || ok "$mode: no second allocator" holds_one_allocator "$WORK/program$mode"
done

# A program of one's own may have any name that the library has inside: all that it does not export.
own_names() {
    nm -D --defined-only "$BUILD/libcadastre.so" | awk '{ print $3 }' | sort -u >"$WORK/exported"
    nm --defined-only "$archive" | awk '$3 ~ /^[A-Za-z_][A-Za-z0-9_]*$/ { print $3 }' | sort -u |
        comm -23 - "$WORK/exported" >"$WORK/inside"
    [ "$(wc -l <"$WORK/inside")" -gt 50 ] || { echo "hardly a name inside the archive"; return 1; }
    sed 's/.*/int own_& __asm__("&") = 1;/' "$WORK/inside" >"$WORK/own.c"
    echo 'extern int puts(const char *); extern void *malloc(unsigned long);
        int main(void) { return malloc(10) ? puts("fine") < 0 : 1; }' >>"$WORK/own.c"
    $CC -w -static "$WORK/own.c" "$archive" -pthread -o "$WORK/own" && runs_fine "$WORK/own"
}
ok "a program may define the names that the library has inside" own_names

done_testing
