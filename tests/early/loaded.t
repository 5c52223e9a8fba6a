#!/usr/bin/env bash
# usage: tests/early/loaded.t
# Calls from where the loader is at work: shared objects' constructors and destructors, dlopen and dlclose, a library
# that initialises before all others, resolvers of indirect functions, auditing libraries; each in a program linked
# with the library and in one that has it preloaded. And the library itself opened by a running program.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

sources=$ROOT/tests/early/programs
library=$BUILD/libcadastre.so
link_ours=("-Wl,--no-as-needed" "-L$BUILD" "-Wl,-rpath,$BUILD" -lcadastre)

shared() {
    local output=$1 source=$2
    shift 2
    compile -shared -fPIC "$sources/$source" -o "$WORK/$output" "$@"
}

# says_fine COMMAND...: exits with 0 and prints "fine" and nothing else.
says_fine() {
    timeout 60 "$@" >"$WORK/out" 2>&1
    local status=$?
    cat "$WORK/out"
    [ "$status" -eq 0 ] && [ "$(cat "$WORK/out")" = fine ]
}

# uses_ours COMMAND...: the process has the library mapped.
uses_ours() {
    LD_TRACE_LOADED_OBJECTS=1 "$@" | grep -F "$library"
}

has_not_ours() {
    ! uses_ours "$@"
}

preloaded() {
    LD_PRELOAD="$library${PRELOAD_TOO:+:$PRELOAD_TOO}" "$@"
}

# ------------------------------------------------------------------------------------ dlopen and dlclose
ok "a plugin builds" shared plugin.so plugin.c
ok "its host builds, linked with the library" compile "$sources/host.c" -ldl -pthread -o "$WORK/host" "${link_ours[@]}"
ok "and without it" compile "$sources/host.c" -ldl -pthread -o "$WORK/plain-host"
ok "the linked host has the library" uses_ours "$WORK/host"
ok "the plain one has it when preloaded" preloaded uses_ours "$WORK/plain-host"
ok "and not otherwise" has_not_ours "$WORK/plain-host"
ok "linked: plugins come and go" says_fine "$WORK/host" "$WORK/plugin.so"
ok "preloaded: plugins come and go" preloaded says_fine "$WORK/plain-host" "$WORK/plugin.so"

# ------------------------------------------------------------------------ the archive in what is closed again
own=("-Wl,-Bsymbolic" "-Wl,--whole-archive" "$BUILD/libcadastre.a" "-Wl,--no-whole-archive" -pthread)
if ok "a library with the archive in it builds" shared own.so own_malloc.c "${own[@]}" &&
    ok "its host builds" compile "$sources/closer_host.c" -ldl -pthread -o "$WORK/closer-host"; then
    ok "it is closed, and then threads end that used it, the process forks, and exits" \
        says_fine "$WORK/closer-host" "$WORK/own.so"
fi

# ------------------------------------------------------------------------------------ before constructors
ok "a library that initialises first builds" shared first.so plugin.c -Wl,-z,initfirst
PRELOAD_TOO=$WORK/first.so
ok "it allocates before the library's constructor: preloaded" preloaded says_fine "$WORK/plain-host" "$WORK/plugin.so"
PRELOAD_TOO=$WORK/plugin.so
ok "a preloaded constructor allocates" preloaded says_fine "$WORK/plain-host" "$WORK/plugin.so"
PRELOAD_TOO=
ok "it allocates before the library's constructor: linked" \
    says_fine env LD_PRELOAD="$WORK/first.so" "$WORK/host" "$WORK/plugin.so"

# ------------------------------------------------------------------ blocks cached before the constructor
# Prints how many blocks the thread caches hold, which is the same whether they were filled before or not.
count_cached() {
    LD_PRELOAD="$library${1:+:$1}" "$WORK/cached"
}

keeps_what_was_cached() {
    local alone early
    alone=$(count_cached '') && early=$(count_cached "$WORK/frees_early.so") || return 1
    echo "$alone cached, $early after a library that freed blocks before"
    [ "$alone" -gt 0 ] && [ "$early" = "$alone" ]
}

if ok "a library that initialises first, and frees blocks" shared frees_early.so frees_early.c -Wl,-z,initfirst; then
    ok "a program that counts what is cached" compile "$sources/cached.c" -o "$WORK/cached"
    ok "the constructor loses none of the blocks that are cached by then" keeps_what_was_cached
fi

# ------------------------------------------------------------------------------------- RTLD_DEEPBIND
if ok "a library that frees what it is given, and gives" shared deep.so deep.c; then
    ok "its host builds, linked with the library" compile "$sources/deep_host.c" -ldl -o "$WORK/deep-host" "${link_ours[@]}"
    ok "and without it" compile "$sources/deep_host.c" -ldl -o "$WORK/plain-deep-host"
    ok "linked: opened with RTLD_DEEPBIND, it has the same malloc" says_fine "$WORK/deep-host" "$WORK/deep.so"
    ok "preloaded: opened with RTLD_DEEPBIND, it has the same malloc" \
        preloaded says_fine "$WORK/plain-deep-host" "$WORK/deep.so"
    ok "linked: so it has by dlmopen" says_fine "$WORK/deep-host" "$WORK/deep.so" dlmopen
    ok "preloaded: so it has by dlmopen" preloaded says_fine "$WORK/plain-deep-host" "$WORK/deep.so" dlmopen
    export CADASTRE_DEEPBIND=keep
    ok "CADASTRE_DEEPBIND=keep: it has the C library's" \
        preloaded says_fine "$WORK/plain-deep-host" "$WORK/deep.so" own
    unset CADASTRE_DEEPBIND
fi

# ------------------------------------------------------------------- handlers of fork registered before ours
if ok "a library whose handlers of fork allocate" shared libatfork.so atfork.c -pthread; then
    handlers=("-Wl,--no-as-needed" "-L$WORK" "-Wl,-rpath,$WORK" -latfork)
    ok "its user builds, linked with the library" \
        compile "$sources/forker.c" -pthread -o "$WORK/forker" "${handlers[@]}" "${link_ours[@]}"
    ok "and without it" compile "$sources/forker.c" -pthread -o "$WORK/plain-forker" "${handlers[@]}"
    ok "linked: forks" says_fine "$WORK/forker"
    ok "preloaded: forks" preloaded says_fine "$WORK/plain-forker"
    PRELOAD_TOO=$WORK/libatfork.so
    ok "preloaded both: forks" preloaded says_fine "$WORK/plain-forker"
    PRELOAD_TOO=
fi

# ---------------------------------------------------------------------------- resolvers of indirect functions
if ok "an indirect function builds" shared libresolver.so resolver.c; then
    resolver=("-L$WORK" "-Wl,-rpath,$WORK" -lresolver "-Wl,-z,now")
    ok "its user builds, linked with the library" \
        compile "$sources/resolved.c" -o "$WORK/resolved" "${link_ours[@]}" "${resolver[@]}"
    ok "and without it" compile "$sources/resolved.c" -o "$WORK/plain-resolved" "${resolver[@]}"
    ok "linked: a resolver allocates" says_fine "$WORK/resolved"
    ok "preloaded: a resolver allocates" preloaded says_fine "$WORK/plain-resolved"
fi

# ---------------------------------------------------------------------------------------- auditing libraries
# audited AUDITOR [VARIABLE=VALUE...] COMMAND...: both the auditor and the program say that they ran, and nothing more.
audited() {
    timeout 60 env LD_AUDIT="$WORK/$1" "${@:2}" >"$WORK/out" 2>&1
    local status=$?
    cat "$WORK/out"
    [ "$status" -eq 0 ] && [ "$(tr '\n' ' ' <"$WORK/out")" = "audited fine " ]
}

# The auditor that is linked with the library has a copy of it in its own namespace.
ok "an auditing library builds" shared auditor.so auditor.c
ok "one linked with the library builds" shared own-auditor.so auditor.c "${link_ours[@]}"
for auditor in auditor.so own-auditor.so; do
    ok "$auditor with a linked program" audited "$auditor" "$WORK/host" "$WORK/plugin.so"
    ok "$auditor with a preloaded program" audited "$auditor" "LD_PRELOAD=$library" "$WORK/plain-host" "$WORK/plugin.so"
    ok "$auditor with a plain program" audited "$auditor" "$WORK/plain-host" "$WORK/plugin.so"
done

# ------------------------------------------------------------------------- the library opened by a running program
ok "a program that opens the library builds" compile "$sources/late_opener.c" -ldl -pthread -o "$WORK/late_opener"
ok "the library opened late works beside the C library's malloc" says_fine "$WORK/late_opener" "$library"
ok "and in a program that has it already" preloaded says_fine "$WORK/late_opener" "$library"

done_testing
