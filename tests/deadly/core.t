#!/usr/bin/env bash
# usage: tests/deadly/core.t
# A process on the library is dumped with gcore and goes on; from the core, gdb reads blocks of every category, the
# stacks of all threads, and the library's own structures. About 70 MB of temporary files.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

source=$ROOT/tests/deadly/programs/blocks_for_core.c
program=$WORK/blocks_for_core
# shellcheck source=../../scripts/common
[ "${CI-}" != true ] || (. "$ROOT/scripts/common" && need gdb:gcore -- "to read a core")
needs gcore "a core that gdb reads" || done_testing

ok "a program with blocks builds" compile "$source" -pthread -o "$program" || done_testing
# With few arenas, as gcore writes even what was never touched.
CADASTRE_ARENAS=2 LD_PRELOAD=$BUILD/libcadastre.so "$program" >"$WORK/said" 2>&1 &
pid=$!
trap 'kill "$pid"; rm -rf "$WORK"' EXIT
for ((tries = 0; tries < 200; tries++)); do
    ! grep -q ready "$WORK/said" || break
    sleep 0.05
done
ok "it is ready to be dumped" contains ready "$WORK/said"
if ! ok "gcore writes a core" gcore -o "$WORK/core" "$pid"; then
    echo "# gcore may attach to a process only where ptrace is allowed: in a container, --cap-add=SYS_PTRACE"
    done_testing
fi
ok "the process goes on" kill -0 "$pid"

# The texts in the blocks, stacks, and what mallinfo2 would say, from the library's variables.
gdb -nx -batch -ex 'x/s tiny' -ex 'x/s small' -ex 'x/s large' -ex 'x/s of_a_thread' -ex 'thread apply all bt' \
    -ex 'p/d many[2999][2999]' -ex 'info symbol malloc' -ex 'p mapped_bytes' "$program" "$WORK/core.$pid" \
    >"$WORK/read" 2>&1 </dev/null
for text in "a TINY block" "a SMALL block" "a LARGE block" "a thread's block"; do
    ok "gdb reads $text" contains "\"$text\"" "$WORK/read"
done
ok "and the last byte of another" contains "\$1 = 1" "$WORK/read"
ok "the stacks of 4 threads" test "$(grep -c ' in wait_inside ' "$WORK/read")" -eq 4
ok "and of the main one" contains " in main ()" "$WORK/read"
ok "malloc is the library's" contains "libcadastre.so" "$WORK/read"
ok "how much it has mapped" grep -Eq '^\$2 = [1-9][0-9]{6,}$' "$WORK/read"

done_testing
