#!/usr/bin/env bash
# usage: tests/api/secure.t
# Environment variables are ignored where the kernel sets AT_SECURE: a setuid program, run by another user, neither
# aborts on misuse nor reports options, although the environment asks for both; the same program without the setuid
# bit does. The program is linked statically, because the loader would not take our library from here in secure mode.
# Making a setuid file of another user's needs root: run it as root, or with sudo.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

if [ "$(id -u)" -ne 0 ]; then
    if [ "${CI-}" = true ]; then
        ok "run as root" false
    else
        skip "environment under AT_SECURE" "needs root: sudo $0"
    fi
    done_testing
fi
needs setpriv "environment under AT_SECURE" || done_testing

ok "a static program" compile -static "$ROOT/tests/api/programs/misuser.c" "$BUILD/libcadastre.a" -pthread \
    -o "$WORK/plain" || done_testing
chmod 755 "$WORK" "$WORK/plain"
cp "$WORK/plain" "$WORK/setuid"
chmod 4755 "$WORK/setuid"

# as_nobody OUTPUT PROGRAM [VARIABLE=VALUE...]
as_nobody() {
    local output=$1 program=$2
    shift 2
    (
        ulimit -c 0
        env -i "$@" setpriv --reuid=65534 --regid=65534 --clear-groups "$program"
        exit # its status; not the last command, so that what the shell says of an abort goes to the file, too
    ) >"$WORK/$output" 2>&1
}

if ! as_nobody first "$WORK/setuid" || ! grep -qx "secure 1" "$WORK/first"; then
    if [ "${CI-}" = true ]; then
        ok "a setuid program runs in secure mode" contains "secure 1" "$WORK/first"
    else
        skip "environment under AT_SECURE" "setuid has no effect in $WORK (nosuid, or no_new_privs): set TMPDIR"
    fi
    done_testing
fi

for option in CADASTRE_ABORT=1 FtMallocErrorAbort= MallocErrorAbort=; do
    as_nobody out "$WORK/plain" "$option"
    status=$?
    ok "$option aborts a plain program" test "$status" -eq 134
    ok "after its report" contains "double free" "$WORK/out"
    as_nobody out "$WORK/setuid" "$option"
    status=$?
    ok "$option does not abort a setuid one" test "$status" -eq 0
    ok "which reports and goes on" contains "went on" "$WORK/out"
    ok "on one line" test "$(grep -c '^cadastre: ' "$WORK/out")" -eq 1
done

for option in CADASTRE_ARENAS=abc CADASTRE_FOO=1; do
    as_nobody out "$WORK/plain" "$option"
    ok "$option is reported in a plain program" contains "cadastre: ${option%%=*}" "$WORK/out"
    as_nobody out "$WORK/setuid" "$option"
    ok "$option is not even looked at in a setuid one" lacks "${option%%=*}" "$WORK/out"
done

as_nobody out "$WORK/plain" CADASTRE_HELP=1
ok "CADASTRE_HELP=1 is heard by a plain program" contains "CADASTRE_HELP=1 (from" "$WORK/out"
as_nobody out "$WORK/setuid" CADASTRE_HELP=1 MallocHelp=1
ok "and not by a setuid one" lacks "CADASTRE_HELP" "$WORK/out"

done_testing
