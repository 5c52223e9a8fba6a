#!/usr/bin/env bash
# usage: tests/fuzz/fuzz.t
# A bounded run of every fuzzer finds nothing ($FUZZ_SECONDS for each, 20); and with a fault planted in a copy of the
# library, each finds it.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

seconds=${FUZZ_SECONDS:-20}
for target in api debug options cfi; do
    ok "$target: $seconds seconds" "$ROOT/scripts/fuzz" --target "$target" --seconds "$seconds"
done

# The objects come along, so that only what is changed is compiled again.
copy=$WORK/tree
mkdir "$copy"
cp -a "$ROOT"/{Makefile,include,src,arena,scripts,tests} "$copy"
mkdir "$copy/build"
cp -a "$ROOT/build"/{flags,fuzz} "$copy/build"

# finds TARGET FILE SED FAULT: with what the sed command makes of FILE, the fuzzer of TARGET fails, saying FAULT.
finds() {
    local target=$1 file=$2 edit=$3 fault=$4
    sed -i.whole -e "$edit" "$copy/$file"
    cmp -s "$copy/$file" "$copy/$file.whole" && { echo "sed changes nothing in $file: $edit"; return 1; }
    touch "$copy/$file"
    "$copy/scripts/fuzz" --target "$target" --seconds 60 >"$WORK/said" 2>&1 && { echo "nothing is found"; return 1; }
    mv "$copy/$file.whole" "$copy/$file"
    touch "$copy/$file"
    contains "$fault" "$WORK/said" && contains "--replay" "$WORK/said"
}

ok "api finds a realloc that copies too little" finds api src/realloc.c \
    's/memcpy(moved, block, min_size(capacity, new_capacity))/memcpy(moved, block, min_size(capacity, 1000))/' \
    'lost contents'
ok "and a mapping that is lost" finds api src/large.c \
    's/if (!unmap(start, span)) {/if (span < 300000 \&\& !unmap(start, span)) {/' \
    'nothing is known of'
ok "debug finds a canary that is looked for too early" finds debug src/debug.c \
    '/^static size_t find_overrun/,/^}/s/entry->size/entry->size - 1/' \
    'the heap contradicts itself'
ok "options finds what a terminal would obey" finds options src/options.c "s/string\[i\] < ' ' || //" \
    'a complaint has the character'
ok "cfi finds a register too many" finds cfi src/cfi.c 's/if (reg >= CFI_REGISTERS)$/if (reg > CFI_REGISTERS)/' \
    'AddressSanitizer: stack-buffer-overflow'

done_testing
