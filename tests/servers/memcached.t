#!/usr/bin/env bash
# memcached, four worker threads, as the user it drops root for: values checked by four clients while
# libmemcached's load runs, files stored and read back, hundreds of connections.
set -u
source "$(dirname "$0")/lib.sh"
begin memcached memcached:memcached libmemcached-tools:memcslap libmemcached-tools:memccp \
    python3:/usr/bin/python3
live 128

as_user=()
((EUID)) || as_user=(-u nobody)

clients() {
    limited "$PYTHON" "$HERE/keyvalue.py" memcached "$WORK/socket" "$@" $((LIVE / 8))
}

slap() {
    local test
    for test in set get mget; do
        limited memcslap --servers="$WORK/socket" --concurrency=4 --initial-load=4000 --execute-number=4000 \
            --test="$test" || return 1
    done
}

# complete FILE: memcslap's reports of three tests, and no error.
complete() {
    grep -i error "$1" && return 1
    is "$(grep -c ' [1-9][0-9]* keys by' "$1")" 3
}

load() {
    local slap
    slap >"$WORK/slap" 2>&1 &
    slap=$!
    clients load 1 >"$WORK/values" && wait "$slap"
}

# Each file goes and comes back by a connection of its own.
files_come_back() {
    local file
    for file in "$TMP"/files/*; do
        limited memccp --servers="$WORK/socket" "$file" || return 1
    done
    for file in "$TMP"/files/*; do
        limited memccat --servers="$WORK/socket" --file="$WORK/back" "$(basename "$file")" &&
            cmp "$file" "$WORK/back" || return 1
    done
}

statistic() {
    limited memcstat --servers="$WORK/socket" | awk -v field="$1:" '$1 == field { print $2 }'
}

round() {
    ((EUID)) || chown nobody "$WORK" # The socket is made when root is gone.
    start server memcached "${as_user[@]}" -s "$WORK/socket" -a 0777 -t 4 -m $((LIVE * 3 / 4))
    check "it answers" up limited memcping --servers="$WORK/socket" || return
    ((EUID)) || check "it gave up root" is "$(stat -c %U "/proc/$SERVER")" nobody
    check "its allocator" allocator_in_use memcached 1
    step "load"
    check "values come back while memcslap runs" timed load
    check "memcslap got no error" complete "$WORK/slap"
    check "files come back" files_come_back
    check "no value was pushed out" is "$(statistic evictions)" 0
    check "no allocation failed" is "$(statistic malloc_fails)" 0
    peak_of "$SERVER"
    check "values are still there" clients verify 1
    check "it stops" stop "$SERVER"
}

mkdir "$TMP/files"
for ((i = 1; i <= 50; i++)); do
    seq $((i * i * 50)) >"$TMP/files/file$i"
done
both round
same "every value" values
finish
