#!/usr/bin/env bash
# usage: tests/soak/planted.t
# The soak finds what it is for: each fault that tests/soak/server.c can plant is named; and without one the same short
# run passes.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

soak() {
    "$BUILD/tests/soak/server.t" --seconds 1 --mib 8 "$@" >"$WORK/out" 2>&1
}

# finds FAULT POINT: the run fails at this point.
finds() {
    if soak --plant "$1" || ! grep -q "^not ok .* - $2" "$WORK/out"; then
        cat "$WORK/out"
        return 1
    fi
}

passes() {
    soak || { cat "$WORK/out"; return 1; }
}

ok "nothing planted: passes" passes
ok "blocks that are lost, as resident memory" finds leak 'resident memory'
ok "and as blocks that are live in the end" grep -q '^not ok .* all that was taken is given back' "$WORK/out"
ok "single blocks that keep slabs" finds pins fragmentation
ok "mappings that are never unmapped" finds mappings 'the number of mappings'
ok "memory retained beyond the contract" finds retained 'the retention contract'

done_testing
