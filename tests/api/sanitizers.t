#!/usr/bin/env bash
# usage: tests/api/sanitizers.t
# Preloaded before the runtimes of gcc's sanitizers, which are shared objects, cadastre says so and leaves every call to
# them: they find what they find alone, and nothing else.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

CXX=${CXX:-g++}
needs "$CXX" "sanitizers" || done_testing
library=$BUILD/libcadastre.so
told="cadastre: the runtime of a sanitizer is loaded: every call goes to its malloc"

# A kernel, or a sandbox, that they do not run in is none of our faults.
export ASAN_OPTIONS=verify_asan_link_order=0

# runs STATUS COMMAND...: what it says goes to out, without our line, which is there if it is preloaded. (A runtime may
# start the program anew, with other addresses.)
runs() {
    local wanted=$1 status=0 preloaded='' said=''
    shift
    timeout 120 "$@" >"$WORK/all" 2>&1 || status=$?
    grep -vxF "$told" "$WORK/all" >"$WORK/out"
    cat "$WORK/all"
    [[ $* != *LD_PRELOAD* ]] || preloaded=yes
    ! grep -qxF "$told" "$WORK/all" || said=yes
    [ "$status" -eq "$wanted" ] && [ "$said" = "$preloaded" ]
}

says_fine() {
    runs 0 "$@" && [ "$(cat "$WORK/out")" = fine ]
}

# finds STATUS TEXT COMMAND...
finds() {
    runs "$1" "${@:3}" && contains "$2" "$WORK/out" && lacks "cadastre:" "$WORK/out"
}

# tries SANITIZER CLEAN FAULTY STATUS TEXT: modes of the program, and how the second one ends.
tries() {
    local program=$WORK/$1 name=$1 clean=$2 faulty=$3 status=$4 text=$5
    local preloaded=(env LD_PRELOAD="$library")
    ok "$name: a program builds" "$CXX" -std=c++17 -O1 -g -fno-builtin -fsanitize="$name" \
        "$ROOT/tests/api/programs/sanitized.cc" -pthread -o "$program" || return
    if ! says_fine "$program" "$clean" >"$WORK/why"; then
        skip "$name: preloaded" "it does not work here by itself: $(head -n 3 "$WORK/why" | tr '\n' ' ')"
        return
    fi
    ok "$name: alone it finds a fault" finds "$status" "$text" "$program" "$faulty"
    ok "$name: preloaded: it finds no fault where none is" says_fine "${preloaded[@]}" "$program" "$clean"
    ok "$name: preloaded: it finds one" finds "$status" "$text" "${preloaded[@]}" "$program" "$faulty"
    ok "$name: options change nothing" finds "$status" "$text" "${preloaded[@]}" CADASTRE_LEAKS=1 CADASTRE_SCRIBBLE=1 \
        CADASTRE_STACKS=4 CADASTRE_QUARANTINE=1000 "$program" "$faulty"
    ok "$name: all functions" says_fine "${preloaded[@]}" "$program" frees
}

tries thread threads race 66 "WARNING: ThreadSanitizer: data race"
tries leak frees leaks 23 "SUMMARY: LeakSanitizer: 1400 byte(s) leaked in 14 allocation(s)."
tries address frees leaks 1 "SUMMARY: AddressSanitizer: 1400 byte(s) leaked in 14 allocation(s)."

done_testing
