#!/usr/bin/env bash
# usage: tests/threads/small_stack.t
# On the smallest stack that a thread can have works every function that the library exports, the program's exit too;
# and all of them under every option. Where there is no memory for what does not fit on it, the call says so.
# The functions are those of scripts/exports, the options those of CADASTRE_HELP: a new one fails until it is here.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

mapfile -t functions < <(sed 's/#.*//' "$ROOT/scripts/exports" | awk 'NF && $2 != "mapper" { print $1 }')
mapfile -t options < <(env -u LD_PRELOAD CADASTRE_HELP=1 LD_PRELOAD="$BUILD/libcadastre.so" /bin/true 2>&1 |
    sed -nE 's/^  (CADASTRE_[A-Z_]+)=.*/\1/p')

# runs VARIABLE=VALUE... -- ARGUMENT...
runs() {
    local environment=() status
    while [ "$1" != -- ]; do
        environment+=("$1")
        shift
    done
    shift
    env "${environment[@]}" LD_PRELOAD="$BUILD/libcadastre.so" timeout 120 "$WORK/small_stack" "$@" \
        >"$WORK/out" 2>"$WORK/errors"
    status=$?
    tail -n 3 "$WORK/errors"
    echo "exit status $status"
    return "$status"
}

ok "the program builds" compile "$ROOT/tests/threads/programs/small_stack.c" -pthread -ldl -o "$WORK/small_stack" ||
    done_testing
ok "there are functions (${#functions[@]}) and options (${#options[@]})" \
    test ${#functions[@]} -gt 70 -a ${#options[@]} -ge 15 || done_testing

# --------------------------------------------------------------------------------------------------- functions
for function in "${functions[@]}"; do
    ok "$function" runs -- "$function"
done

# ----------------------------------------------------------------------------------------------------- options
# A path longer than any piece that the stack has room for.
deep=$WORK/logs-%p
for i in 1 2 3 4 5; do
    deep+=/$(printf "%0120d" "$i")-%p
done

# To which values an option is set, and nothing for one that is not known here.
values_of() {
    case $1 in
    CADASTRE_ARENAS) echo 1 64 ;;
    CADASTRE_STACKS) echo 64 ;;
    CADASTRE_LOG) echo "$WORK/log-%p" "$deep" ;;
    CADASTRE_PERTURB) echo 17 ;;
    CADASTRE_GUARD) echo edges ;;
    CADASTRE_QUARANTINE) echo 1M ;;
    CADASTRE_CHECK_EACH) echo 5 ;;
    CADASTRE_HISTORY) echo 1000 ;;
    CADASTRE_STATS) echo exit signal ;;
    CADASTRE_DEEPBIND) echo keep ;;
    CADASTRE_LEAKS | CADASTRE_RELEASE_AT_EXIT | CADASTRE_SCRIBBLE | CADASTRE_CANARIES | CADASTRE_HELP) echo 1 ;;
    esac
}

# Dies at the first wrong free, as it is to, and not of the stack.
aborts() {
    runs CADASTRE_ABORT=1 CADASTRE_STACKS=64 -- free
    [ $? -eq 134 ]
}

for option in "${options[@]}"; do
    if [ "$option" = CADASTRE_ABORT ]; then
        ok "$option=1" aborts
        continue
    fi
    ok "$option: there is a value to try" test "$(values_of "$option")" || continue
    for value in $(values_of "$option"); do
        ok "all functions with $option=${value:0:40}" runs "$option=$value" -- "${functions[@]}"
    done
done

# What the reports need most: stacks with each, in a log whose path is expanded, while the whole heap is looked at.
ok "all functions with all debugging modes" runs CADASTRE_STACKS=64 CADASTRE_SCRIBBLE=1 CADASTRE_CANARIES=1 \
    CADASTRE_GUARD=edges CADASTRE_QUARANTINE=1M CADASTRE_CHECK_EACH=50 CADASTRE_HISTORY=1000 CADASTRE_LEAKS=1 \
    CADASTRE_STATS=exit CADASTRE_LOG="$WORK/all-%p" -- "${functions[@]}"
ok "whose reports came, with stacks" grep -q "called by thread .*, at" "$WORK"/all-*

# ---------------------------------------------------------------------------------------------------- the log
log_in_depth() {
    local directory
    (
        directory=${deep%/*}
        mkdir -p "${directory//%p/$BASHPID}"
        exec env CADASTRE_LOG="$deep" LD_PRELOAD="$BUILD/libcadastre.so" "$WORK/small_stack" free 2>/dev/null
    ) && contains "cadastre: free(" "$(find "$WORK"/logs-* -type f)"
}
ok "a log whose path is long, with the process in each part of it" log_in_depth

# --------------------------------------------------------------------------------------------------- no memory
scratch=(cadastre_stats cadastre_arena_stats cadastre_resident cadastre_stats_print mallinfo mallinfo2 malloc_stats
    malloc_info show_alloc_mem_ex show_alloc_mem_map)
for function in "${functions[@]}"; do
    [[ $function == @(dlopen|_Znwm|_Znam|_ZnwmSt11align_val_t|_ZnamSt11align_val_t) ]] ||
        ok "$function without memory" runs -- --starved "$function"
done
for function in "${scratch[@]}"; do
    ok "$function without memory in the midst of another" runs -- --busy "$function"
    ok "$function says so" contains "cadastre: $function: no memory" "$WORK/errors"
done
ok "CADASTRE_STATS=exit without memory" runs CADASTRE_STATS=exit -- --starved cadastre_option_get
ok "prints all the same" contains "most bytes mapped" "$WORK/errors"
ok "CADASTRE_STATS=exit without memory in the midst of another" runs CADASTRE_STATS=exit -- --busy cadastre_option_get
ok "says so" contains "cadastre: CADASTRE_STATS: no memory" "$WORK/errors"

done_testing
