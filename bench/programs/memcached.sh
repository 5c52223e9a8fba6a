#!/usr/bin/env bash
# memcached, two worker threads, under memcslap's four. An operation is a command: set of new keys, get of keys that
# are there, with the set of these in memory and processor time. (Values lie in memcached's own slabs, of a megabyte
# each; malloc serves those, connections and buffers.)
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=(memcached:memcached libmemcached-tools:memcslap libmemcached-tools:memcping libmemcached-tools:memcstat)
CASES=(set get)
CLIENTS=4

slap() {
    load "$TMP/report" memcslap --servers="$WORK/socket" --concurrency="$CLIENTS" "$@"
}

statistic() {
    limited memcstat --servers="$WORK/socket" | awk -v field="$1:" '$1 == field { print $2 }'
}

measure() {
    local each as_user=()
    ((EUID)) || as_user=(-u root)
    live 192
    each=$((LIVE * 240)) # of each client
    serve memcached "${as_user[@]}" -s "$WORK/socket" -t 2 -m "$LIVE"
    until_up limited memcping --servers="$WORK/socket"
    verify "$SERVER"
    before "$SERVER"
    slap --test="$CASE" --execute-number="$each" --initial-load="$each"
    after "$SERVER"
    [[ $(statistic "cmd_$CASE") -ge $((CLIENTS * each)) && $(statistic evictions) == 0 ]] ||
        failed "$TMP/report" "not every command arrived, or values were pushed out"
    seconds_for $((CLIENTS * each)) "$(awk '/ keys by / { print $(NF - 1) }' "$TMP/report")"
    result
}

main "$@"
