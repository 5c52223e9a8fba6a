# shellcheck shell=bash
# What the programs of the benchmark share. Each script sources this file, sets PACKAGES (package:command or file,
# as scripts/common's `need` takes them) and CASES, defines `measure`, and ends with: main "$@"
#
# measure runs CASE once with these set, and calls `result` last:
#
#   CASE       one of CASES
#   WORK       a directory of its own, where every process of the program works
#   LIBRARY    the allocator as it was asked for, empty for glibc
#   PRELOAD    what to preload: a copy of LIBRARY, or nothing
#
#   live MIB               sets LIVE, the MiB of memory that the work may use: fewer where there is little
#   serve COMMAND          a preloaded server in WORK; its process is SERVER
#   until_up COMMAND       waits until COMMAND, which asks SERVER something, succeeds
#   load FILE COMMAND      a load generator, or another client; not preloaded. What it says goes to FILE
#   verify PID...          the processes run on the allocator
#   before PID...          the load begins: takes what the workers hold, and the processor time that they have used
#   after PID...           it has ended: takes their time and their peaks, and a second later what they hold
#   batch EXE COMMAND      a preloaded program that ends by itself; EXE is the file that its worker process runs. All
#                          is taken, and what it said is in TMP/out and TMP/err
#   seconds_for OPS S      so many operations took S seconds
#   result                 prints the figures
#
# The peak is VmHWM. With several workers all figures are the sum over them, so that a page which they share counts for
# each.

# shellcheck source=../../scripts/common
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common" || exit 1

NAME=$(basename "$0" .sh)
# shellcheck disable=SC2034 # For the programs.
HERE=$ROOT/bench/programs
STEP_LIMIT=60 # Seconds until a step counts as hung; the longest is expected to take 8.
# shellcheck disable=SC2034 # For the programs.
PYTHON=/usr/bin/python3 # The distribution's: another on the PATH need not be one that takes a preload.
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin # An ordinary user's lacks the servers.

# All allocators at their defaults, and none but the one that is asked for.
unset LD_PRELOAD GLIBC_TUNABLES "${!MALLOC_@}" "${!MIMALLOC_@}" "${!CADASTRE_@}" "${!TCMALLOC_@}" "${!TBB_MALLOC_@}"

time_ns=- rate=- peak=- idle=- held=- cpu_ticks=0 ops=0
LINKED_ALLOCATOR='' # Part of the file's name, where the program is linked with an allocator of its own.

usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    cat <<END

usage: $0 LIBRARY CASE
       $0 --cases | --packages | --help

Runs CASE once, with LIBRARY preloaded into the program and nothing else; '' is glibc. Prints
  time_ns_per_op=N ops_per_s=N peak_rss_kib=N idle_rss_kib=N rss_before_kib=N cpu_ns_per_op=N
with - for a figure that the program does not give: time by the clock, memory and processor time (which others on the
machine disturb less) of the preloaded processes. --cases and --packages print a line each.
END
}

# shellcheck disable=SC2153 # CASES and PACKAGES are the program's.
main() {
    case ${1-} in
    --help) usage && exit 0 ;;
    --cases) printf '%s\n' "${CASES[@]}" && exit 0 ;;
    --packages) printf '%s\n' "${PACKAGES[@]}" && exit 0 ;;
    esac
    if (($# != 2)) || [[ " ${CASES[*]} " != *" $2 "* ]]; then
        usage >&2
        exit 2
    fi
    CASE=$2
    need "${PACKAGES[@]}" -- "to measure $NAME"
    TMP=$(realpath "$(mktemp -d -t "cadastre-$NAME.XXXXXX")") ||
        die "mktemp gave no directory: is ${TMPDIR:-/tmp} writable?"
    trap clear_up EXIT
    trap 'exit 130' INT TERM HUP
    WORK=$TMP/work
    mkdir -m 755 "$WORK"
    chmod 755 "$TMP"
    LIBRARY=$1 PRELOAD=
    if [[ $LIBRARY ]]; then
        # A copy can be read by a server that has given up root, and does not change under a running program.
        PRELOAD=$TMP/$(basename "$LIBRARY")
        install -m 755 "$LIBRARY" "$PRELOAD" 2>/dev/null || die "cannot copy $LIBRARY: does it exist?"
        [[ -z $(LD_PRELOAD=$PRELOAD env true 2>&1) ]] || die "$LIBRARY cannot be preloaded: is it a shared library?"
    fi
    measure
}

step() {
    progress "$NAME $CASE: $1"
}

live() {
    LIVE=$(($(mem_bound $(($1 << 20))) >> 20))
    printf '%s %s: live set of at most %d MiB\n' "$NAME" "$CASE" "$LIVE" >&2
    ((LIVE >= 32)) || die "needs 32 MiB of a quarter of the available memory: free some"
}

limited() {
    timeout --foreground -k 5 "$STEP_LIMIT" "$@"
}

# await SECONDS COMMAND: waits until COMMAND, silenced, succeeds.
await() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS <= until)) || return 1
        sleep 0.02
    done
}

gone() {
    ! kill -0 "$1" 2>/dev/null
}

# failed FILE TEXT: shows what was said, and ends.
failed() {
    tail -n 20 "$1" >&2
    die "$CASE: $2"
}

# processes DIRECTORY [EXE]: the processes that work in or below it (and run a file of that name).
processes() {
    local entry
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$1*" -printf '%h\n' 2>/dev/null | while read -r entry; do
        # shellcheck disable=SC2053 # EXE may be a pattern.
        [[ $(readlink "$entry/exe") != */${2-*} ]] || printf '%s\n' "${entry#/proc/}"
    done
}

serve() {
    step "starting"
    (cd "$WORK" && exec env ${PRELOAD:+LD_PRELOAD="$PRELOAD"} "$@") >"$TMP/server.log" 2>&1 </dev/null &
    SERVER=$!
}

until_up() {
    local until=$((SECONDS + 30))
    until "$@" >/dev/null 2>&1; do
        if gone "$SERVER" || ((SECONDS > until)); then
            failed "$TMP/server.log" "the server does not answer"
        fi
        sleep 0.02
    done
}

load() {
    local file=$1
    shift
    (cd "$WORK" && limited "$@") >"$file" 2>&1 </dev/null || failed "$file" "failed: $*"
}

# on_allocator PID: the process has the library mapped, and no file that calls itself an allocator but those whose name
# begins like the library's, and LINKED_ALLOCATOR. It is beyond its start: the C library is mapped after the preloaded.
on_allocator() {
    local name=${PRELOAD##*/} maps
    maps=$(cat "/proc/$1/maps" 2>/dev/null) && [[ $maps == */libc[.-]* ]] || return
    [[ ! $PRELOAD ]] || verify_preload "$1" "$PRELOAD" || return
    ! grep -o '/lib[^/]*\(alloc\|cadastre\)[^/]*$' <<<"$maps" |
        grep -qv -e '^$' ${name:+-e "^/${name%%[_.]*}"} ${LINKED_ALLOCATOR:+-e "$LINKED_ALLOCATOR"}
}

verify() {
    local pid
    (($#)) || die "$CASE: found no worker process"
    for pid; do
        on_allocator "$pid" || die "$CASE: process $pid does not run on ${LIBRARY:-glibc} alone: see its /proc/PID/maps"
    done
}

# memory FIELD PID...: the sum of a field of the processes' status, in KiB.
memory() {
    local field=$1 pid files=()
    shift
    for pid; do
        files+=("/proc/$pid/status")
    done
    awk -v field="$field:" '$1 == field { sum += $2 } END { print sum + 0 }' "${files[@]}" 2>/dev/null
}

# The processes' time in user and system mode, in clock ticks. A name may have spaces: count from its end.
ticks() {
    local pid files=()
    for pid; do
        files+=("/proc/$pid/stat")
    done
    sed 's/.*) //' "${files[@]}" 2>/dev/null | awk '{ sum += $12 + $13 } END { print sum + 0 }'
}

before() {
    held=$(memory VmRSS "$@")
    cpu_ticks=$(ticks "$@")
    step "load"
}

after() {
    cpu_ticks=$(($(ticks "$@") - cpu_ticks))
    peak=$(memory VmHWM "$@")
    step "idle"
    sleep 1
    idle=$(memory VmRSS "$@")
}

batch() {
    local exe=$1 from command worker='' pid cost=$TMP/cost status=0 user system
    shift
    step "running"
    from=${EPOCHREALTIME/./}
    # GNU time itself is not preloaded, and passes on the largest of its descendants.
    (
        cd "$WORK" && exec timeout --foreground -k 5 "$STEP_LIMIT" /usr/bin/time -q -o "$cost" -f '%M %U %S' \
            env ${PRELOAD:+LD_PRELOAD="$PRELOAD"} "$@"
    ) >"$TMP/out" 2>"$TMP/err" </dev/null &
    command=$!
    # One that has not mapped the library yet may still be starting, so only the lack of any is an error.
    until [[ $worker ]] || gone "$command"; do
        for pid in $(processes "$WORK" "$exe"); do
            ! on_allocator "$pid" || worker=$pid
        done
        sleep 0.02
    done
    wait "$command" || status=$?
    seconds_for 1 "$(awk -v us=$((${EPOCHREALTIME/./} - from)) 'BEGIN { print us / 1e6 }')"
    ((status == 0)) || failed "$TMP/err" "ended with status $status: $*"
    [[ $worker ]] || die "$CASE: no process running $exe was seen on ${LIBRARY:-glibc}"
    read -r peak user system <"$cost"
    cpu_ticks=$(awk -v hz="$(getconf CLK_TCK)" -v s="$user" -v t="$system" 'BEGIN { print (s + t) * hz }')
}

seconds_for() {
    ops=$1
    time_ns=$(awk -v ops="$1" -v s="$2" 'BEGIN { printf "%.0f", s * 1e9 / ops }')
    rate=$(awk -v ns="$time_ns" 'BEGIN { rate = 1e9 / ns; printf rate < 1000 ? "%.3f" : "%.0f", rate }')
}

result() {
    progress_end
    [[ $time_ns =~ ^[1-9] && $peak =~ ^[1-9] ]] || die "$CASE: no figures: time $time_ns ns, peak $peak KiB"
    printf 'time_ns_per_op=%s ops_per_s=%s peak_rss_kib=%s idle_rss_kib=%s rss_before_kib=%s cpu_ns_per_op=%s\n' \
        "$time_ns" "$rate" "$peak" "$idle" "$held" "$(
            awk -v ticks="$cpu_ticks" -v hz="$(getconf CLK_TCK)" -v ops="$ops" \
                'BEGIN { printf "%.0f", ticks / hz * 1e9 / ops }'
        )"
}

idle_here() {
    [[ -z $(processes "$TMP") ]]
}

# A process belongs to this run by its working directory: so it is found whoever forked it.
clear_up() {
    local status=$? pids
    progress_end
    mapfile -t pids < <(processes "$TMP")
    if ((${#pids[@]})); then
        kill "${pids[@]}" 2>/dev/null
        await 5 idle_here || { mapfile -t pids < <(processes "$TMP") && kill -9 "${pids[@]}" 2>/dev/null; }
    fi
    rm -rf "$TMP"
    exit "$status"
}
