#!/usr/bin/env bash
# PostgreSQL, four clients of pgbench, each with a backend of its own. An operation is a transaction: pgbench's own, or
# one that sorts, hashes and builds JSON of some thousand rows. Memory is the four backends', last looked at while they
# were there (they end with their clients): peaks only, and each has the shared buffers that it touched in it.
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=('postgresql:/usr/lib/postgresql/*/bin/initdb')
CASES=(tpcb report)
CLIENTS=4

BIN=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
as_user=()
((EUID)) || as_user=(setpriv --reuid=postgres --regid=postgres --init-groups)

client() {
    local program=$1
    shift
    load "$TMP/client" "${as_user[@]}" "$BIN/$program" -h "$WORK" -U postgres "$@"
}

answers() {
    (cd "$WORK" && limited "${as_user[@]}" "$BIN/pg_isready" -h "$WORK")
}

backends() {
    local pid
    for pid in $(processes "$WORK" postgres); do
        ! grep -q -a '^postgres: postgres bench' "/proc/$pid/cmdline" || printf '%s\n' "$pid"
    done
}

# Looks twice, as the backend by which pgbench reads its tables first may still be ending.
all_backends() {
    mapfile -t pids < <(backends)
    ((${#pids[@]} == CLIENTS)) && sleep 0.2 && [[ $(backends) == "$(printf '%s\n' "${pids[@]}")" ]]
}

# What is left of a backend that has ended is the last look at it.
declare -A peak_of=() ticks_of=()
look_at() {
    local pid now
    for pid; do
        now=$(memory VmHWM "$pid")
        ((now == 0)) || peak_of[$pid]=$now
        now=$(ticks "$pid")
        ((now == 0)) || ticks_of[$pid]=$now
    done
}

sum() {
    local IFS=+
    echo $(($*))
}

measure() {
    local bench transactions=3000 script=()
    live 128
    [[ $CASE == tpcb ]] || transactions=15 script=(-f "$HERE/pgbench.sql" -D "rows=$((LIVE * 100))")
    ((EUID)) || chown postgres "$WORK"
    load "$TMP/initdb" "${as_user[@]}" "$BIN/initdb" -D "$WORK/data" -U postgres -A trust -E UTF8 --locale=C --no-sync
    # The shared memory is a private mapping and files of the cluster's, nothing in /dev/shm. So high a target for the
    # statistics that all rows are counted, or a sample now and then changes a plan, and with it the memory.
    serve "${as_user[@]}" "$BIN/postgres" -D "$WORK/data" -c listen_addresses= -c "unix_socket_directories=$WORK" \
        -c fsync=off -c autovacuum=off -c default_statistics_target=1500 -c max_parallel_workers_per_gather=0 \
        -c dynamic_shared_memory_type=mmap -c shared_buffers=8MB -c work_mem=$((LIVE / 8))MB
    until_up answers
    client createdb bench
    client pgbench -i -q -s 4 bench
    step "load"
    client pgbench -n -c "$CLIENTS" -j 2 -t "$transactions" "${script[@]}" bench &
    bench=$!
    await 10 all_backends || failed "$TMP/client" "did not see the $CLIENTS backends"
    verify "${pids[@]}"
    until gone "$bench"; do
        look_at "${pids[@]}"
        sleep 0.2
    done
    wait "$bench" || failed "$TMP/client" "pgbench failed"
    grep -q "processed: $((CLIENTS * transactions))/" "$TMP/client" || failed "$TMP/client" "transactions are missing"
    seconds_for $((CLIENTS * transactions)) "$(
        awk -v ops=$((CLIENTS * transactions)) '/^tps = / { print ops / $3 }' "$TMP/client"
    )"
    peak=$(sum "${peak_of[@]}")
    cpu_ticks=$(sum "${ticks_of[@]}")
    result
}

main "$@"
