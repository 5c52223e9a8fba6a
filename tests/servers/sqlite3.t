#!/usr/bin/env bash
# sqlite3: tables, indices, a sort on two threads, full-text search and JSON in memory and in a file; the
# checksums of every table are compared.
set -u
source "$(dirname "$0")/lib.sh"
begin sqlite3 sqlite3:sqlite3
live 64

round() {
    run shell sqlite3 sqlite3 -batch -bail database \
        ".param set \$rows $((LIVE * 2000))" ".read $HERE/sqlite3.sql"
    check "the file is sound" is "$(limited sqlite3 "$WORK/database" 'pragma integrity_check')" ok
}

both round
same "every result" log/shell.out
finish
