#!/usr/bin/env bash
# sqlite3: inserts, indices, joins, text search and JSON in a database in memory, whose pages are malloc blocks. The
# operation is the whole program.
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=(sqlite3:sqlite3 time:/usr/bin/time)
CASES=(memory)

measure() {
    live 128
    batch sqlite3 sqlite3 -batch -bail :memory: ".param set \$rows $((LIVE * 1500))" ".read \"$HERE/sqlite3.sql\""
    [[ $(tail -n 1 "$TMP/out") == "items|$((LIVE * 1500 - LIVE * 1500 / 7))" ]] || failed "$TMP/out" "wrong result"
    result
}

main "$@"
