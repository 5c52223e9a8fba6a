#!/usr/bin/env bash
# usage: tests/threads/unheard_linked.t
# Threads that end without a destructor of ours, as in unheard.c: that program linked with the archive, static and not;
# and the library opened by a program that has used up all keys.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

source=$ROOT/tests/threads/unheard.c

says_fine() {
    "$@" >"$WORK/out" 2>&1
    local status=$?
    cat "$WORK/out"
    [ "$status" -eq 0 ] && [ "$(cat "$WORK/out")" = fine ]
}

for mode in -static -pie; do
    ok "$mode: builds" compile "-I$ROOT/tests" "$mode" "$source" "$BUILD/libcadastre.a" -pthread -o "$WORK/unheard$mode" &&
        ok "$mode: all is well" "$WORK/unheard$mode"
done

program=$ROOT/tests/threads/programs/opened_late.c
ok "a program that opens the library late" compile "$program" -pthread -ldl -o "$WORK/late" &&
    ok "no key is left for it" says_fine "$WORK/late" "$BUILD/libcadastre.so"

done_testing
