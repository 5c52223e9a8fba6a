#!/usr/bin/env bash
# redis-server: client processes and redis-benchmark's threads against two I/O threads; a dump written by a
# forked child while clients go on, and loaded by another server; everything freed by the background thread.
set -u
source "$(dirname "$0")/lib.sh"
begin redis redis-server:redis-server redis-tools:redis-benchmark redis-tools:redis-cli \
    python3:/usr/bin/python3
live 128

# Debian's redis-server is linked with jemalloc, so that its glibc round has to be preloaded as well.
GLIBC_PRELOAD=$(ldd "$(command -v redis-server)" | awk '$1 == "libc.so.6" { print $3 }')

serve() {
    start "$1" redis-server --port 0 --unixsocket "$WORK/socket" --dir "$WORK" --save '' \
        --logfile "$LOG/$1.log" --io-threads 2 --io-threads-do-reads yes
    check "$1 answers" up answers
}

cli() {
    limited redis-cli -s "$WORK/socket" "$@"
}

answers() {
    [[ $(cli ping) == PONG ]]
}

info() {
    cli info | awk -F '[:\r]' -v field="$1" '$1 == field { print $2 }'
}

clients() {
    limited "$PYTHON" "$HERE/keyvalue.py" redis "$WORK/socket" "$@" $((LIVE / 4))
}

# collections FILE build COUNT | read: their checksum in FILE, and no error message.
collections() {
    cli --eval "$HERE/redis.lua" , "${@:2}" >"$1"
    grep -Ex '[1-9][0-9]* collections, [0-9a-f]{40}' "$1" || { cat "$1" && false; }
}

unchanged() {
    collections "$WORK/collections.now" read && cmp "$WORK/collections" "$WORK/collections.now"
}

benchmark() {
    limited redis-benchmark -s "$WORK/socket" --threads 4 -c 32 -P 16 -n 40000 -r 20000 -d 200 -q \
        -t set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,lrange_100 >"$WORK/benchmark" 2>&1
}

# complete FILE: redis-benchmark's report of eleven tests, one of which it prepares by a twelfth, and of no
# error.
complete() {
    tr '\r' '\n' <"$1" | grep -i error && return 1
    is "$(grep -c 'requests per second' "$1")" 12
}

load() {
    local benchmark
    benchmark &
    benchmark=$!
    clients load 1 >"$WORK/values" && wait "$benchmark"
}

# The dump holds the values of seed 1 and the collections as they are, whatever the clients of seed 2 do
# meanwhile.
dump() {
    local writers
    clients load 2 >"$WORK/values2" &
    writers=$!
    [[ $(cli bgsave) == 'Background saving started' ]] && await 60 dumped &&
        [[ $(info rdb_last_bgsave_status) == ok ]] && wait "$writers"
}

dumped() {
    [[ $(info rdb_bgsave_in_progress) == 0 ]]
}

empty() {
    [[ $(cli dbsize) == 0 && $(info lazyfree_pending_objects) == 0 ]]
}

# What redis counts by malloc_usable_size, when a block is had and again when it is freed, is back where it
# was.
balanced() {
    local now
    now=$(info used_memory)
    echo "used_memory: $1 at first, $now now"
    ((now > $1 / 2 && now < $1 + 4 * 1024 * 1024))
}

round() {
    local at_first
    serve server || return
    check "its allocator" allocator_in_use 'redis-*' 1
    at_first=$(info used_memory)
    step "load"
    check "values come back while redis-benchmark runs" timed load
    check "redis-benchmark got no error" complete "$WORK/benchmark"
    check "the I/O threads took part" test "$(info io_threaded_writes_processed)" -gt 0
    [[ $(info mem_allocator) != jemalloc* ]] ||
        check "the jemalloc that it is linked with is idle" test "$(info allocator_allocated)" -lt 8388608
    check "collections are built" collections "$WORK/collections" build $((LIVE * 100))
    check "MEMORY PURGE is accepted" is "$(cli memory purge)" OK
    step "dump"
    check "BGSAVE under load" dump
    check "collections are unchanged" unchanged
    peak_of "$SERVER"
    cli flushall async >/dev/null
    check "FLUSHALL ASYNC ends" await 30 empty
    check "nothing is lost of the memory that redis counts" balanced "$at_first"
    check "it stops" stop "$SERVER"

    step "second server"
    serve loader || return
    check "its allocator" allocator_in_use 'redis-*' 1
    check "the dump's values" clients verify 1
    check "the dump's collections" unchanged
    check "the second server stops" stop "$SERVER"
}

both round
same "every value" values
same "every value of the second load" values2
same "every collection" collections
finish
