#!/usr/bin/env bash
# usage: tests/stress/planted.t
# The scenarios find what they are there to find: faults that are planted in builds of their own, and that no ordinary
# run shows.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

# finds TEXT ARGUMENTS...: scripts/stress with the arguments fails, says TEXT, and how to run it again.
finds() {
    local text=$1
    shift
    if "$ROOT/scripts/stress" "$@" >"$WORK/said" 2>&1; then
        echo "nothing was found"
        return 1
    fi
    contains "$text" "$WORK/said" && contains "again:  scripts/stress --variants" "$WORK/said"
}

# Locks that order nothing: on x86-64 the processor orders all the same, and contents hold.
ok "ThreadSanitizer reports the planted race" finds 'ThreadSanitizer: data race' --variants tsan-race random
ok "also that of clang" finds 'ThreadSanitizer: data race' --variants tsan-clang-race random
ok "and in the frees of other threads' blocks" finds 'ThreadSanitizer: data race' --variants tsan-race many-to-one

# A block that waits for its way back to another arena is still shown as live.
ok "the register's scenario finds a state that is written late" \
    finds 'free during a whole walk, and visited' --variants plain-delay --seconds 5 register

done_testing
