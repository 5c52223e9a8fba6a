#!/usr/bin/env bash
# usage: tests/deadly/loading.t
# Where the loader has brought other allocators down: one that interposes mmap and the clock, and calls dlsym in it; the
# library opened where static TLS is nearly full; closed while threads live that used it; forks that race the first
# malloc, before the library's constructor has run; and handlers of fork that stop and start a thread.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

sources=$ROOT/tests/deadly/programs
library=$BUILD/libcadastre.so
linked=("-Wl,--no-as-needed" "-L$BUILD" "-Wl,-rpath,$BUILD" -lcadastre)

shared() {
    compile -shared -fPIC "$sources/$1.c" -o "$WORK/$1.so" "${@:2}"
}

program() {
    compile "$sources/$1.c" -ldl -pthread -o "$WORK/${2-$1}" "${@:3}"
}

# says_fine COMMAND...: exits with 0 and prints "fine" and nothing else.
says_fine() {
    timeout 60 "$@" >"$WORK/out" 2>&1
    local status=$?
    cat "$WORK/out"
    [ "$status" -eq 0 ] && [ "$(cat "$WORK/out")" = fine ]
}

# preloaded LIBRARIES COMMAND...
preloaded() {
    says_fine env LD_PRELOAD="$1" "${@:2}"
}

# --------------------------------------------------------------------------- mmap and the clock interposed
if ok "an interposer of mmap and the clock builds" shared interposer -ldl && ok "a program that makes it map" program mapper &&
    ok "the same, linked with the library" program mapper linked-mapper "${linked[@]}"; then
    ok "preloaded behind the library, it sees only the program's calls" \
        preloaded "$library:$WORK/interposer.so" "$WORK/mapper"
    ok "in front of it, too" preloaded "$WORK/interposer.so:$library" "$WORK/mapper"
    ok "and with the library linked" preloaded "$WORK/interposer.so" "$WORK/linked-mapper"
fi

# -------------------------------------------------------------------------------------- static TLS nearly full
# Opens as many fillers as fit, but one: from 32 to 63 bytes are left then.
opens_in_a_crowd() {
    local most
    most=$("$WORK/crowded" "$WORK") || return 1
    echo "$most of $copies fit"
    [ "$most" -gt 1 ] && [ "$most" -lt "$copies" ] || return 1
    says_fine "$WORK/crowded" "$WORK" $((most - 1)) "$library"
}

copies=300
if ok "a library with thread-local variables builds" shared filler &&
    ok "a program that opens many" program crowded; then
    for ((i = 0; i < copies; i++)); do
        cp "$WORK/filler.so" "$WORK/$i.so"
    done
    ok "the library opens where 32 more bytes of static TLS are left" opens_in_a_crowd
fi

# --------------------------------------------------------------------------------- closed before threads end
ok "a program that closes the library builds" program closer &&
    ok "threads that used it end after it was closed" says_fine "$WORK/closer" "$library"

# ------------------------------------------------------------------------------ forks that race the first malloc
# race_often COMMAND...: chance decides who is where when a fork happens.
race_often() {
    for ((run = 0; run < 20; run++)); do
        "$@" || return 1
    done
}

if ok "a library whose constructor forks builds" shared forks_first -pthread -Wl,-z,initfirst &&
    ok "a program to load it into" program fine &&
    ok "the same, linked with the library" program fine linked-fine "${linked[@]}"; then
    ok "forks race the first malloc: preloaded" race_often preloaded "$library:$WORK/forks_first.so" "$WORK/fine"
    ok "forks race the first malloc: linked" race_often preloaded "$WORK/forks_first.so" "$WORK/linked-fine"
    # The C library does not know the environment yet.
    CADASTRE_FOO=1 LD_PRELOAD=$library:$WORK/forks_first.so "$WORK/fine" argument "" >"$WORK/out" 2>&1
    ok "the options are read as early" contains "cadastre: CADASTRE_FOO: unknown option; ignored" "$WORK/out"
fi

# ------------------------------------------------------------------------------- handlers of fork with a thread
# The library's own handlers are the first, so that others' run while it holds no lock; unless it is opened late.
if ok "a library builds that stops its thread for a fork" shared worker -pthread; then
    with_worker=("-Wl,--no-as-needed" "$WORK/worker.so" "-Wl,-rpath,$WORK")
    ok "its user builds" program forker forker "${with_worker[@]}" &&
        ok "preloaded: forks, and the thread is there again" preloaded "$library" "$WORK/forker"
    ok "its user builds, linked with the library" program forker linked-forker "${with_worker[@]}" "${linked[@]}" &&
        ok "linked: forks, and the thread is there again" says_fine "$WORK/linked-forker"
fi
ok "a program builds whose handler starts a thread before the library opened late is ready" program late_forker &&
    ok "the thread comes to allocate" says_fine "$WORK/late_forker" "$library"

done_testing
