#!/usr/bin/env bash
# usage: tests/scripts/stress.t
# scripts/stress in its user's hands, with a stress program that does what is asked of it: what it says of a failure,
# and what it does where ThreadSanitizer cannot take the layout of the addresses.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=small.sh
. "$(dirname "$0")/small.sh"

small_tree "$WORK/tree"
mkdir -p "$WORK/tree/tests/stress/programs"
cat >"$WORK/tree/tests/stress/programs/main.c" <<'C'
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>

/* Its last argument is the scenario. */
int main(int argc, char **argv) {
    const char *scenario = argv[argc - 1];
    if (strcmp(scenario, "--list") == 0)
        return puts("good one\nbad two\nslow three\nspread four") < 0;
    if (strcmp(scenario, "spread") == 0 && (personality(0xffffffff) & ADDR_NO_RANDOMIZE) == 0) {
        puts("FATAL: ThreadSanitizer: unexpected memory mapping 0x1000-0x2000");
        return 66;
    }
    printf("%s: what it says\n", scenario);
    return strcmp(scenario, "bad") == 0 ? 1 : strcmp(scenario, "slow") == 0 ? 124 : 0;
}
C
stress=$WORK/tree/scripts/stress

# says STATUS TEXT ARGUMENTS...: ends with the status, and says the text on either output.
says() {
    local status=0 wanted=$1 text=$2
    shift 2
    "$stress" "$@" >"$WORK/said" 2>&1 || status=$?
    [ "$status" -eq "$wanted" ] || { echo "exit status $status"; cat "$WORK/said"; return 1; }
    contains "$text" "$WORK/said"
}

ok "one that holds" says 0 '1 scenarios, 8 threads' --variants plain good
ok "one that does not is said how to run again" \
    says 1 'again:  scripts/stress --variants plain --seed 5 --threads 3 --seconds 2 bad' \
    --variants plain --seed 5 --threads 3 --seconds 2 bad
ok "with what it said" contains 'bad: what it says' "$WORK/said"
ok "one that hangs" says 1 'slow FAILED (hung)' --variants plain slow
ok "of all, those that fail are counted" says 1 '2 FAILED' --variants plain good bad slow good
ok "variants have builds of their own" says 0 'plain-cramped' --variants 'plain plain-cramped' good
ok "also by name" test -x "$WORK/tree/build/stress-cramped/release/stress"

ok "ThreadSanitizer has another try without spread addresses" says 0 'ok' --variants tsan spread
mkdir "$WORK/bin"
printf '#!/bin/sh\nexit 1\n' >"$WORK/bin/setarch"
chmod +x "$WORK/bin/setarch"
forbidden() {
    PATH=$WORK/bin:$PATH says 1 'sysctl vm.mmap_rnd_bits=28' --variants tsan spread
}
ok "where that is forbidden, it is said what to set" forbidden

ok "an option that it has not is named" fails_saying '--bogus: no such option' "$stress" --bogus
ok "an option without its value" fails_saying '--seed wants a value' "$stress" --seed
ok "a value that is none" fails_saying 'want numbers' "$stress" --threads many
ok "a variant that there is not" fails_saying 'plain-fast: no such variant' "$stress" --variants plain-fast
ok "a scenario that there is not" fails_saying 'they are: good bad slow spread' "$stress" --variants plain other

done_testing
