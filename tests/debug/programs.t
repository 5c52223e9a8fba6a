#!/usr/bin/env bash
# usage: tests/debug/programs.t
# Programs that others wrote, with each debugging mode and with all of them: they do and say what they do without, and
# nothing is reported.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

library=$BUILD/libcadastre.so
all=(CADASTRE_SCRIBBLE=1 CADASTRE_CANARIES=1 CADASTRE_QUARANTINE=1M CADASTRE_STACKS=16 CADASTRE_GUARD=edges
    CADASTRE_HISTORY=1000 CADASTRE_CHECK_EACH=1000)
modes=("${all[@]}" CADASTRE_PERTURB=165 CADASTRE_RELEASE_AT_EXIT=1 "${all[*]}")

# same MODE COMMAND...: the same status and output as without the library, and nothing on standard error of ours.
same() {
    local options
    read -ra options <<<"$1"
    shift
    timeout 120 "$@" >"$WORK/expected" 2>"$WORK/expected.errors" </dev/null
    local expected=$?
    timeout 120 env "${options[@]}" LD_PRELOAD="$library" "$@" >"$WORK/found" 2>"$WORK/found.errors" </dev/null
    local found=$?
    head -20 "$WORK/found.errors"
    [ "$found" -eq "$expected" ] || { echo "exit status $found, without the library $expected"; return 1; }
    cmp "$WORK/expected" "$WORK/found" && cmp "$WORK/expected.errors" "$WORK/found.errors"
}

# for_each_mode NAME COMMAND...
for_each_mode() {
    local name=$1 mode
    shift
    for mode in "${modes[@]}"; do
        ok "$name: ${mode//CADASTRE_/}" same "$mode" "$@"
    done
}


# --------------------------------------------------------------------------------------- what every system has
seq 5000 | rev >"$WORK/numbers"
# shellcheck disable=SC2016  # for the inner shell
script='x=; for i in {1..20}; do x+=$(echo "$i" | cat); y[i]=$x; done; echo "${#y[*]} ${#x}"; ls / | while read -r l; do
    case $l in u*) echo "$l" ;; esac; done; trap "echo end" EXIT; (exit 3); echo $?'
for_each_mode ls ls -lR "$ROOT/tests/unit" "$ROOT/include"
for_each_mode bash bash -c "$script"
for_each_mode sort sort --parallel=4 -S 100K "$WORK/numbers"
# shellcheck disable=SC2016  # for awk
for_each_mode awk awk '{ c[$1 % 100] = c[$1 % 100] $1 } END { for (i = 0; i < 100; i++) print length(c[i]) }' \
    "$WORK/numbers"
for_each_mode tar tar -C "$ROOT" -czf - --mtime=@0 --sort=name include
if needs python3 python; then
    for_each_mode python python3 -c '
import json, re, subprocess, threading
data = {str(i): list(range(i % 50)) for i in range(500)}
threads = [threading.Thread(target=lambda: json.loads(json.dumps(data))) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(json.dumps(data)), len(re.findall("[0-9]+", json.dumps(data))), len(bytearray(10000000)))
print(subprocess.run(["echo", "child"], capture_output=True).stdout)'
fi

# --------------------------------------------------------------------------------------------- a compiler; C++
CXX=${CXX:-g++}
for_each_mode gcc "$CC" -O1 -S "$ROOT/tests/early/programs/plugin.c" -o -
if needs "$CXX" C++; then
    ok "a C++ program builds" "$CXX" -std=c++17 -O1 "$ROOT/tests/debug/programs/frees_all.cc" -pthread -ldl \
        -o "$WORK/frees_all"
    for_each_mode "C++" "$WORK/frees_all"
fi

done_testing
