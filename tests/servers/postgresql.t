#!/usr/bin/env bash
# postgresql: initdb, then pgbench with four clients, whose books have to balance, and queries that sort,
# hash, parse and aggregate in parallel workers, in a cluster on a Unix socket, as the user postgres when run
# by root.
set -u
source "$(dirname "$0")/lib.sh"
begin postgresql 'postgresql:/usr/lib/postgresql/*/bin/initdb'
live 256

BIN=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
CLIENTS=4 TRANSACTIONS=4000 # of each client
as_user=()
((EUID)) || as_user=(setpriv --reuid=postgres --regid=postgres --init-groups)

client() {
    local program=$1
    shift
    (cd "$WORK" && limited "${as_user[@]}" "$BIN/$program" -h "$WORK" -U postgres "$@")
}

query() {
    client psql -X -q -A -t -v ON_ERROR_STOP=1 -d bench "$@"
}

# pgbench's books, and all its backends seen while it runs.
bench() {
    local bench status=0
    client pgbench -n -c "$CLIENTS" -j 2 -t "$TRANSACTIONS" bench >"$LOG/pgbench" 2>&1 &
    bench=$!
    await 20 backends || status=$?
    wait "$bench" || status=$?
    cat "$LOG/pgbench"
    ((!status)) && grep -q "processed: $((CLIENTS * TRANSACTIONS))/" "$LOG/pgbench"
}

backends() {
    local pid count=0
    for pid in $(processes "$WORK" postgres); do
        ! grep -q -a 'postgres bench' "/proc/$pid/cmdline" || count=$((count + 1))
    done
    ((count >= CLIENTS)) && allocator_in_use postgres "$CLIENTS"
}

# A client that asks too early whether it is up is told so, and that is logged as fatal.
errors_logged() {
    grep -E 'ERROR|FATAL|PANIC|WARNING' "$LOG/server.err" | grep -v 'the database system is starting up$'
}

round() {
    ((EUID)) || chown postgres "$WORK"
    run initdb postgres "${as_user[@]}" "$BIN/initdb" \
        -D "$WORK/data" -U postgres -A trust -E UTF8 --locale=C --no-sync
    # The shared memory is a private mapping and files of the cluster's, nothing in /dev/shm.
    start server "${as_user[@]}" "$BIN/postgres" -D "$WORK/data" -c listen_addresses= \
        -c "unix_socket_directories=$WORK" -c fsync=off -c dynamic_shared_memory_type=mmap \
        -c shared_buffers=$((LIVE / 8))MB -c work_mem=$((LIVE / 16))MB
    check "it answers" up client pg_isready || return
    check "its allocator" allocator_in_use postgres 4
    step "pgbench"
    check "its tables" client createdb bench
    check "its rows" client pgbench -i -q -s 2 bench
    check "pgbench, on $CLIENTS backends of that allocator" timed bench
    query -c "select (select sum(abalance) from pgbench_accounts) - sum(delta),
        (select sum(bbalance) from pgbench_branches) - sum(delta),
        (select sum(tbalance) from pgbench_tellers) - sum(delta), count(*)
        from pgbench_history" >"$WORK/books"
    check "the books balance" is "$(cat "$WORK/books")" "0|0|0|$((CLIENTS * TRANSACTIONS))"
    step "queries"
    check "queries" timed query -f "$HERE/postgresql.sql" -v "rows=$((LIVE * 500))" -o "$WORK/results"
    peak "$(awk '/^VmHWM/ { print $2 }' "$WORK/status")"
    check "it stops" stop "$SERVER"
    check "no error in its log" not errors_logged
}

both round
same "every result" results
finish
