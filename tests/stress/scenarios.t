#!/usr/bin/env bash
# usage: tests/stress/scenarios.t
# Each stress scenario, for a second, with each variant of the library: scripts/stress. With LONG=1 all variants
# for longer, and 64 threads at full speed for a minute each.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

stress=$ROOT/scripts/stress
if [ "${LONG-}" ]; then
    ok "all scenarios with all variants" "$stress" --all
else
    for variant in $("$stress" --list-variants); do
        ok "all scenarios: $variant" "$stress" --variants "$variant"
    done
fi

done_testing
