#!/usr/bin/env bash
# usage: tests/api/operators.t
# C++'s operators new and delete: every form, in a program that has the library preloaded, is linked with it, with its
# archive, or static; where nothing can be given; where memory is really out (64 MiB of address space are used up).
# Beside another library's operators and a program's own. And in a C++ plugin of a program in C.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

CXX=${CXX:-g++}
needs "$CXX" "C++'s operators new and delete" || done_testing
programs=$ROOT/tests/api/programs
library=$BUILD/libcadastre.so
ours=("-L$BUILD" "-Wl,-rpath,$BUILD" -lcadastre)
rival=("-L$WORK" "-Wl,-rpath,$WORK" -lrival)

build() {
    local source=$1
    shift
    $CXX -std=c++17 -O1 -g "$source" "$@" -pthread
}

# says_fine COMMAND...: exits with 0, prints "fine" and nothing else on either output.
says_fine() {
    timeout 60 "$@" >"$WORK/out" 2>&1
    local status=$?
    cat "$WORK/out"
    [ "$status" -eq 0 ] && [ "$(cat "$WORK/out")" = fine ]
}

preloaded() {
    says_fine env LD_PRELOAD="$library" "$@"
}

# all_modes HOW COMMAND...: the program operators.cc, run by `COMMAND... MODE`.
all_modes() {
    local how=$1
    shift
    ok "$how: every form gives blocks and takes them back" "$@" forms
    ok "$how: what cannot be given" "$@" failures
    ok "$how: memory out" "$@" exhausted
    ok "$how: memory out, two threads" "$@" exhausted-threads
}

# ------------------------------------------------------------------------------------------ each way to have it
ok "plain: builds" build "$programs/operators.cc" -o "$WORK/plain" &&
    all_modes preloaded preloaded "$WORK/plain"
ok "linked: builds" build "$programs/operators.cc" "${ours[@]}" -o "$WORK/linked" &&
    all_modes linked says_fine "$WORK/linked"
ok "with the archive: builds" build "$programs/operators.cc" "$BUILD/libcadastre.a" -o "$WORK/archive" &&
    all_modes "with the archive" says_fine "$WORK/archive"
ok "static: builds" build "$programs/operators.cc" -static "$BUILD/libcadastre.a" -o "$WORK/static" &&
    all_modes static says_fine "$WORK/static"

# The linker keeps the library for a program that asks it for nothing but the operators.
needs_only_operators() {
    echo 'int main() { delete new int; }' >"$WORK/only.cc"
    build "$WORK/only.cc" -O0 -Wl,--as-needed "${ours[@]}" -o "$WORK/only" &&
        LD_TRACE_LOADED_OBJECTS=1 "$WORK/only" | grep -F "$library" && "$WORK/only"
}
ok "linked --as-needed: a program that only news and deletes keeps the library" needs_only_operators

# -------------------------------------------------------------------------------------------- others' operators
if ok "a library with operators of its own builds" build "$programs/rival.cc" -shared -fPIC -o "$WORK/librival.so" &&
    ok "its user builds" build "$programs/operators.cc" "${rival[@]}" -o "$WORK/rivalled" &&
    ok "and one with ours before it" build "$programs/operators.cc" "${ours[@]}" "${rival[@]}" -o "$WORK/both"; then
    "$WORK/rivalled" whose >"$WORK/out"
    ok "by itself its operators are in effect" contains "the rival's" "$WORK/out"
    ok "preloaded: ours are" preloaded "$WORK/rivalled" whose
    all_modes "preloaded before another library's operators" preloaded "$WORK/rivalled"
    ok "linked: ours are" says_fine "$WORK/both" whose
    all_modes "linked before another library's operators" says_fine "$WORK/both"
fi

if ok "a program with operators of its own builds" build "$programs/own_operators.cc" -o "$WORK/own" &&
    ok "and linked with the library" build "$programs/own_operators.cc" "${ours[@]}" -o "$WORK/own-linked"; then
    ok "by itself it uses its own in every form" says_fine "$WORK/own"
    ok "preloaded: it keeps its own" preloaded "$WORK/own"
    ok "linked: it keeps its own" says_fine "$WORK/own-linked"
fi

# ---------------------------------------------------------------------- the C++ library loaded out of our sight
if ok "a plugin in C++ builds" build "$programs/new_plugin.cc" -shared -fPIC -o "$WORK/plugin.so" &&
    ok "its host in C builds" compile "$programs/new_host.c" -ldl -o "$WORK/host" &&
    ok "and linked with the library" compile "$programs/new_host.c" -Wl,--no-as-needed "${ours[@]}" -ldl \
        -o "$WORK/host-linked"; then
    ok "preloaded: the plugin catches what new throws" preloaded "$WORK/host" "$WORK/plugin.so"
    ok "linked: the plugin catches what new throws" says_fine "$WORK/host-linked" "$WORK/plugin.so"
fi

done_testing
