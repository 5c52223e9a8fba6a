#!/usr/bin/env bash
# usage: tests/api/own_malloc.t
# A program, or a library before ours, that defines malloc and free, or malloc, calloc, realloc and free, and none of
# the other names of the family: those do what they do on the C library alone. (A program with operators new and delete
# of its own: operators.t.)
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

source=$ROOT/tests/api/programs/own_malloc.c
library=$BUILD/libcadastre.so
ours=("-Wl,--no-as-needed" "-L$BUILD" "-Wl,-rpath,$BUILD" -lcadastre)

# says_fine COMMAND...: exits with 0, prints "fine" and nothing else on either output.
says_fine() {
    timeout 60 "$@" >"$WORK/out" 2>&1
    local status=$?
    cat "$WORK/out"
    [ "$status" -eq 0 ] && [ "$(cat "$WORK/out")" = fine ]
}

# tries NAME FLAGS...: the program, and the library with the same in it before ours.
tries() {
    local name=$1
    shift
    if ok "a program with $name of its own builds" compile "$@" -DOWN -DUSER "$source" -pthread -o "$WORK/own" &&
        ok "and linked with the library" compile "$@" -DOWN -DUSER "$source" "${ours[@]}" -pthread -o "$WORK/linked"; then
        ok "$name: on the C library alone" says_fine "$WORK/own"
        ok "$name: preloaded" says_fine env LD_PRELOAD="$library" "$WORK/own"
        ok "$name: linked" says_fine "$WORK/linked"
    fi
    if ok "a library with $name builds" compile "$@" -DOWN -shared -fPIC "$source" -o "$WORK/own.so" &&
        ok "its user builds" compile "$@" -DUSER "$source" "$WORK/own.so" -pthread -o "$WORK/user"; then
        ok "$name in a library: on the C library alone" says_fine "$WORK/user"
        ok "$name in a library: before ours" says_fine env LD_PRELOAD="$WORK/own.so:$library" "$WORK/user"
    fi
}

tries "malloc and free"
tries "malloc, calloc, realloc and free" -DFOUR

done_testing
