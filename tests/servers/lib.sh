# shellcheck shell=bash
# What the tests of real programs share. Each sources this file, says what it needs with begin, and runs its
# program in two rounds of the same work, on glibc's malloc and then with the library preloaded:
#
#   both FUNCTION          calls FUNCTION twice, with these set:
#                            ROUND    glibc, then cadastre
#                            WORK     the round's own directory; every process of the round works in it
#                            LOG      the directory for all that the programs of the round say
#                            PRELOAD  what the round preloads (GLIBC_PRELOAD, as a rule empty, or LIBRARY)
#   run NAME EXE COMMAND   a command that ends by itself, and the test points on that
#   start NAME COMMAND     a server; its process is SERVER
#   up COMMAND             waits until SERVER answers
#   limited COMMAND        a client of it, or whatever else might hang; not preloaded
#   check TEXT COMMAND     a test point: passed if COMMAND succeeds; what it said is shown if it does not
#   same TEXT FILE         a test point: both rounds left the same FILE, which is not empty
#   finish                 what has to hold of every program, the cost of both rounds, and the plan
#
# A process belongs to a round by its working directory: so it is found again whoever forked it and whatever
# it calls itself, and nothing that a test has started outlives it.
#
# Environment, of a test that is run by itself:
#   CADASTRE_LIBRARY=FILE  preloads FILE in place of build/libcadastre.so: the debug build, a rival
#   KEEP=1                 leaves the temporary directory behind

# shellcheck source=../../scripts/common
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common"

# shellcheck disable=SC2034 # For the tests.
HERE=$ROOT/tests/servers
# shellcheck disable=SC2034
PYTHON=/usr/bin/python3 # The distribution's: another on the PATH need not be one that takes a preload.
GLIBC_PRELOAD=
STEP_LIMIT=300 # Seconds until a step counts as hung; the longest is expected to take 40.
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin # An ordinary user's lacks the servers.

declare -A TIME=() PEAK=() # By round: microseconds of work; KiB of the largest process.
POINTS=0 FAILED=0 ROUND='' SERVER=''

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^$/s/^#\( \|$\)//p' "$0"
    cat <<END

usage: $0

One test in TAP, for prove. CADASTRE_LIBRARY=FILE in the environment tries another library than the built one,
KEEP=1 leaves the temporary directory behind.
END
    exit 0
fi
((!$#)) || die "takes no argument but --help"

# begin NAME PACKAGE:WHAT ...: installs what is missing, makes the temporary directory, and puts the library
# into it, where a server that has given up root can read it.
begin() {
    NAME=$1
    need time:/usr/bin/time "${@:2}" -- "to test $NAME on the allocator"
    local library
    library=${CADASTRE_LIBRARY:-$(library)} || exit 1
    unset CADASTRE_LIBRARY # The library would report it as an option that it does not know.
    TMP=$(realpath "$(mktemp -d -t "cadastre-$NAME.XXXXXX")") ||
        die "mktemp gave no directory: is ${TMPDIR:-/tmp} writable?"
    trap clear_up EXIT
    trap 'exit 130' INT TERM HUP
    chmod 755 "$TMP"
    export TMPDIR=$TMP/temporary
    mkdir -m 1777 "$TMPDIR"
    LIBRARY=$TMP/$(basename "$library")
    install -m 755 "$library" "$LIBRARY" || die "cannot copy $library: does it exist?"
    [[ -z $(LD_PRELOAD=$LIBRARY env true 2>&1) ]] ||
        die "$library, copied to $TMP, cannot be preloaded: is it mounted noexec? Set TMPDIR elsewhere"
}

# live MIB [LEAST]: sets LIVE, the MiB that may be in use at one time, for the work to fit itself into: MIB,
# or a quarter of the available memory if that is less. Some programs do not go below LEAST however little
# they are given to do.
live() {
    LIVE=$(($(mem_bound $(($1 << 20))) >> 20))
    diag "$NAME: live set of at most $LIVE MiB"
    ((LIVE >= ${2:-16})) || die "$NAME takes ${2:-16} MiB of a quarter of the available memory: free some"
}

diag() { printf '# %s\n' "$*"; }

check() {
    local text=${ROUND:+$ROUND: }$1 status=0
    shift
    "$@" >"$TMP/said" 2>&1 || status=$?
    POINTS=$((POINTS + 1))
    if ((!status)); then
        printf 'ok %d - %s\n' "$POINTS" "$text"
    else
        FAILED=$((FAILED + 1))
        printf 'not ok %d - %s\n' "$POINTS" "$text"
        diag "  failed with status $status: $*"
        head -n 30 "$TMP/said" | sed 's/^/#   /'
    fi
    return "$status"
}

# is GOT WANTED: for check.
is() {
    [[ $1 == "$2" ]] || { printf 'got:    %s\nwanted: %s\n' "$1" "$2" && false; }
}

# not COMMAND: for check.
not() {
    ! "$@"
}

same() {
    check "$1, as on glibc" alike "$TMP/glibc/$2" "$TMP/cadastre/$2"
}

alike() {
    [[ -s $1 ]] || { printf '%s is empty or missing\n' "$1" && return 1; }
    cmp "$1" "$2" || { diff -a "$1" "$2" | head -n 20 && false; }
}

both() {
    for ROUND in glibc cadastre; do
        PRELOAD=$GLIBC_PRELOAD
        [[ $ROUND == glibc ]] || PRELOAD=$LIBRARY
        WORK=$TMP/$ROUND
        LOG=$WORK/log
        TIME[$ROUND]=0
        PEAK[$ROUND]=0
        mkdir -p "$LOG"
        step "starting"
        "$1"
    done
    ROUND=''
}

# step TEXT: what is going on, for who waits.
step() {
    progress "$NAME on $ROUND: $1"
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
        sleep 0.05
    done
}

# timed COMMAND: adds the time that COMMAND takes to the round's.
timed() {
    local from=${EPOCHREALTIME/./} status=0
    "$@" || status=$?
    TIME[$ROUND]=$((TIME[$ROUND] + ${EPOCHREALTIME/./} - from))
    return "$status"
}

# peak KIB: the round's largest process was at least so large.
peak() {
    (($1 <= PEAK[$ROUND])) || PEAK[$ROUND]=$1
}

# peak_of PID: the same, of a process that is still there.
peak_of() {
    peak "$(awk '/^VmHWM/ { print $2 }' "/proc/$1/status" 2>/dev/null || echo 0)"
}

start() {
    local name=$1
    shift
    (
        cd "$WORK" || exit 1
        exec env ${PRELOAD:+LD_PRELOAD="$PRELOAD"} "$@"
    ) >"$LOG/$name.out" 2>"$LOG/$name.err" </dev/null &
    SERVER=$!
}

# up COMMAND: waits until COMMAND, which asks SERVER something, succeeds; shows what was said if it does not.
up() {
    local until=$((SECONDS + 30))
    until "$@" >/dev/null 2>&1; do
        if gone "$SERVER" || ((SECONDS > until)); then
            tail -n 20 "$LOG"/* && return 1
        fi
        sleep 0.05
    done
}

# stop PID: a server ends on SIGTERM, in time and with status 0.
stop() {
    kill "$1" && await 30 gone "$1" && wait "$1"
}

gone() {
    ! kill -0 "$1" 2>/dev/null
}

# run NAME EXE COMMAND: its output goes to LOG/NAME.out and .err, its time and the peak of its largest process
# to the round's cost. Two test points: that a process which runs EXE (the name of a program's file, or a
# pattern) was seen with the round's allocator, and that COMMAND ended with status 0.
run() {
    local name=$1 exe=$2 cost="$WORK/cost" started=$SECONDS command status=0 elapsed=0 kib=0
    shift 2
    (
        cd "$WORK" || exit 1
        exec timeout --foreground -k 5 "$STEP_LIMIT" /usr/bin/time -q -o "$cost" -f '%e %M' \
            env ${PRELOAD:+LD_PRELOAD="$PRELOAD"} "$@"
    ) >"$LOG/$name.out" 2>"$LOG/$name.err" </dev/null &
    command=$!
    check "$name: the allocator of a process running $exe" seen "$exe" "$command"
    until gone "$command"; do
        step "$name, $((SECONDS - started)) s"
        sleep 0.1
    done
    wait "$command" || status=$?
    [[ ! -s $cost ]] || read -r elapsed kib <"$cost"
    TIME[$ROUND]=$((TIME[$ROUND] + 10#${elapsed/./} * 10000))
    peak "$kib"
    check "$name: ends with status 0" ended_well "$status" "$LOG/$name.err"
}

ended_well() {
    (($1 != 124 && $1 != 137)) || echo "it hung and was ended"
    (($1 == 0)) || { tail -n 20 "$2" && return "$1"; }
}

# seen EXE PID: within the lifetime of PID, a process of the round that runs EXE is seen with the round's
# allocator. One that has not mapped it yet may still be starting, so only the lack of any is an error.
seen() {
    until allocator_in_use "$1" 1 >"$TMP/seen"; do
        ! gone "$2" || { cat "$TMP/seen" && return 1; }
        sleep 0.02
    done
}

# allocator_in_use EXE COUNT: at least COUNT processes of the round run EXE, and all of them have the round's
# allocator.
allocator_in_use() {
    local pid on count=0
    for pid in $(processes "$WORK" "$1"); do
        on=glibc
        ! verify_preload "$pid" "$LIBRARY" || on=cadastre
        grep -q . "/proc/$pid/maps" 2>/dev/null || continue # It has ended since.
        [[ $on == "$ROUND" ]] || { echo "process $pid is on $on" && return 1; }
        count=$((count + 1))
    done
    ((count >= $2)) || { echo "$count of $2 processes found that run $1" && return 1; }
}

# processes DIRECTORY [EXE]: the processes that work in or below it (and run a file of that name).
processes() {
    local entry
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$1*" -printf '%h\n' 2>/dev/null | while read -r entry; do
        # shellcheck disable=SC2053 # EXE may be a pattern.
        [[ $(readlink "$entry/exe") != */${2-*} ]] || printf '%s\n' "${entry#/proc/}"
    done
}

# silent: no line of the library's, and none of the dynamic linker's about it, in anything that was said.
silent() {
    ! grep -r -a -e 'cadastre:' -e 'ld\.so: object' "$TMP"/{glibc,cadastre}/log
}

idle() {
    [[ -z $(processes "$TMP") ]]
}

all_ended() {
    local pid
    await 5 idle && return
    for pid in $(processes "$TMP"); do
        printf '%s: %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
    done
    return 1
}

cost() {
    awk -v us="${TIME[$1]}" -v kib="${PEAK[$1]}" 'BEGIN { printf "%.2f s, %.1f MiB", us / 1e6, kib / 1024 }'
}

finish() {
    check "nothing of the library's in anything that was said" silent
    check "nothing is left running" all_ended
    diag "$NAME: $(cost cadastre); glibc $(cost glibc)"
    printf '1..%d\n' "$POINTS"
    exit $((FAILED != 0))
}

clear_up() {
    local status=$? pids
    progress_end
    mapfile -t pids < <(processes "$TMP")
    if ((${#pids[@]})); then
        kill "${pids[@]}" 2>/dev/null
        await 5 idle || { mapfile -t pids < <(processes "$TMP") && kill -9 "${pids[@]}" 2>/dev/null; }
    fi
    if [[ -n ${KEEP-} ]]; then
        diag "kept: $TMP"
    else
        rm -rf "$TMP"
    fi
    exit "$status"
}
