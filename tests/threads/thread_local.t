#!/usr/bin/env bash
# usage: tests/threads/thread_local.t
# A C++ program with thread_local objects that allocate in their destructors: linked with the library, with it
# preloaded, and static.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

CXX=${CXX:-g++}
needs "$CXX" "C++ thread_local destructors" || done_testing
program=$ROOT/tests/threads/programs/thread_local.cc

build() {
    $CXX -std=c++17 -O1 -g "$program" "$@" -pthread
}

# runs_fine COMMAND...: says "fine" and nothing else, on either output.
runs_fine() {
    "$@" >"$WORK/out" 2>&1
    local status=$?
    cat "$WORK/out"
    [ "$status" -eq 0 ] && [ "$(cat "$WORK/out")" = fine ]
}

# Only libstdc++ calls malloc here, and it is searched after the library: so the library is taken whole.
build_static() {
    build -static -Wl,--whole-archive "$BUILD/libcadastre.a" -Wl,--no-whole-archive -o "$WORK/static" &&
        ! nm "$WORK/static" | grep ' _int_malloc$'
}

ok "linked: builds" build "-L$BUILD" "-Wl,-rpath,$BUILD" -Wl,--no-as-needed -lcadastre -o "$WORK/linked" &&
    ok "linked: runs" runs_fine "$WORK/linked"
ok "plain: builds" build -o "$WORK/plain" &&
    ok "preloaded: runs" runs_fine env LD_PRELOAD="$BUILD/libcadastre.so" "$WORK/plain"
ok "static: builds, with no allocator but ours" build_static &&
    ok "static: runs" runs_fine "$WORK/static"

done_testing
