#!/usr/bin/env bash
# python3: objects, strings, dictionaries and JSON, built, replaced at random and thrown away. Once with every object in
# a malloc block of its own (PYTHONMALLOC=malloc), once by its default, whose small objects come from arenas of 256 KiB.
# The operation is the whole program.
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=(python3:/usr/bin/python3 time:/usr/bin/time)
CASES=(malloc default)

measure() {
    export PYTHONMALLOC=$CASE PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
    live 160
    batch 'python3*' "$PYTHON" "$HERE/python.py" "$LIVE"
    [[ $(<"$TMP/out") =~ ^[0-9a-f]{64}$ ]] || failed "$TMP/out" "no checksum"
    result
}

main "$@"
