#!/usr/bin/env bash
# redis-server under redis-benchmark, whose 32 connections pipeline 32 commands each. An operation is a command: SET of
# random keys, GET of random keys, LPUSH onto random lists. One thread of redis-benchmark outpaces the server, and more
# than one look for the end every 250 ms only.
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=(redis-server:redis-server redis-tools:redis-benchmark redis-tools:redis-cli)
CASES=(set get lpush)
VALUE_SIZE=100
LISTS=10000

# Debian's redis-server is linked with jemalloc, so that glibc has to be preloaded as well.
is_linked_with_jemalloc() {
    ldd "$(command -v redis-server)" | grep -q jemalloc
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

# benchmark COUNT ARGUMENT...
benchmark() {
    load "$TMP/report" redis-benchmark -s "$WORK/socket" --csv -c 32 -P 32 -d "$VALUE_SIZE" -n "$@"
}

measure() {
    local keys commands
    live 192
    keys=$((LIVE * 2500)) commands=$((LIVE * 15000))
    if is_linked_with_jemalloc; then
        LINKED_ALLOCATOR=/libjemalloc
        [[ $PRELOAD ]] || PRELOAD=$(ldd "$(command -v redis-server)" | awk '$1 == "libc.so.6" { print $3 }')
    fi
    serve redis-server --port 0 --unixsocket "$WORK/socket" --save '' --appendonly no
    until_up answers
    verify "$SERVER"
    [[ $CASE != get ]] || benchmark "$keys" -r "$keys" -t set
    before "$SERVER"
    case $CASE in
    set | get) benchmark "$commands" -r "$keys" -t "$CASE" ;;
    lpush)
        commands=$((LIVE * 8000))
        benchmark "$commands" -r "$LISTS" lpush list:__rand_int__ "$(printf "%${VALUE_SIZE}s" | tr ' ' x)"
        ;;
    esac
    after "$SERVER"
    [[ $(info total_error_replies) == 0 && $(cli dbsize) -gt 0 ]] || failed "$TMP/report" "redis answered with errors"
    if [[ $LINKED_ALLOCATOR && $LIBRARY != *jemalloc* ]]; then
        (($(info allocator_allocated) < 8 << 20)) || die "$CASE: the jemalloc that redis is linked with is in use"
    fi
    seconds_for "$commands" "$(awk -F '"' -v ops="$commands" 'END { print ops / $4 }' "$TMP/report")"
    result
}

main "$@"
