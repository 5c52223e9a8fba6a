#!/usr/bin/env bash
# usage: tests/mapper/planted.t
# Plants faults in copies of memory_mapper.c, one at a time, and holds the tests to finding each: the programs of
# tests/mapper must fail on it, in the case that is named, and pass without it.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

source=$ROOT/src/mapper/memory_mapper.c
export TMPDIR=$WORK MAPPER_TEST=$$
mkdir "$WORK/mapper-test-$$"
trap 'rm -rf "$WORK" /dev/shm/mapper-test-$$-*' EXIT

# What the test of that name has linked to its own functions, as the Makefile does.
wraps() {
    [ "$1" = faults ] && sed -nE '/^FAULTS :=/,/[^\\]$/{s/^FAULTS :=|\\$//g; s/\w+/-Wl,--wrap=&/g; p}' "$ROOT/Makefile"
}

# build SOURCE TEST PROGRAM
build() {
    # shellcheck disable=SC2046  # flags are words
    $CC -std=c11 -D_GNU_SOURCE -w -O1 -g -pthread -I"$ROOT/include" -I"$ROOT/tests" $(wraps "$2") \
        "$ROOT/tests/mapper/$2.c" "$1" -o "$WORK/$3"
}

# Each case is a process of its own, so that none disturbs the next.
run() {
    timeout -k 10 100 "$WORK/$1" "$2"
}

# finds SED TEST CASE: the test's CASE passes as it is, and fails with the change.
finds() {
    local status=0
    sed -E "$1" "$source" >"$WORK/changed.c"
    if cmp -s "$source" "$WORK/changed.c"; then
        echo "nothing was changed by: $1"
        return 1
    fi
    [ -x "$WORK/$2" ] || build "$source" "$2" "$2" || return 1
    run "$2" "$3" || { echo "fails without the change"; return 1; }
    build "$WORK/changed.c" "$2" changed && run changed "$3" || status=$?
    [ "$status" -eq 1 ] || { echo "with the change: exit status $status"; return 1; }
    rm -rf /dev/shm/mapper-test-$$-*
}

ok "MAP_FAILED as an address is found" \
    finds '/^static int record_map/,/^}/s/addr == MAP_FAILED/addr == NULL/' contract 'anonymous memory has the size asked for, if there can be so much'
ok "and where a call is refused" \
    finds '/^static int record_map/,/^}/s/addr == MAP_FAILED/addr == NULL/' faults 'any call refused: all or nothing'

ok "a descriptor that unmap leaves open is found" \
    finds 's/if \(record->own\.fd >= 0 \&\& close_fd.*/if (0)/' acceptance 'unmap leaves nothing in maps, descriptors and /dev/shm'
ok "and one that runs out after some cycles" \
    finds 's/if \(record->own\.fd >= 0 \&\& close_fd.*/if (0)/' handles '10,000 cycles of every kind with 64 descriptors'
ok "so is one that a failure leaves open" \
    finds '/^static t_mapping \*record_discard/,/^}/s/record_release\(record\)/munmap(record, record->size)/' \
    contract 'what is no file is refused, without blocking'

ok "a munmap of one page of several is found" \
    finds '/^PUBLIC int unmap/,/^}/s/own\.addr, record->own\.size/own.addr, 4096/' acceptance 'unmap leaves nothing in maps, descriptors and /dev/shm'
ok "so is one of a page less" \
    finds '/^PUBLIC int unmap/,/^}/s/own\.addr, record->own\.size/own.addr, record->own.size - 4096/' \
    acceptance 'unmap leaves nothing in maps, descriptors and /dev/shm'
ok "and one after a failure" \
    finds '/^static t_mapping \*record_discard/,/^}/s/own\.addr, record->own\.size/own.addr, 4096/' faults 'any call refused: all or nothing'

ok "a writable file mapped MAP_PRIVATE is found" \
    finds 's/writable \? MAP_SHARED : MAP_PRIVATE/MAP_PRIVATE/' acceptance 'a file is written, and has it after sync_mapping'
ok "so is shared anonymous memory" \
    finds 's/shared \? MAP_SHARED : MAP_PRIVATE/MAP_PRIVATE/' acceptance 'anonymous memory is shared with children'
ok "so is a new region" \
    finds 's/\(name, MAP_SHARED, PROT_READ \| PROT_WRITE\)/(name, MAP_PRIVATE, PROT_READ | PROT_WRITE)/' \
    acceptance 'a region is attached, and both see the same'
ok "so is one that is attached" \
    finds 's/\(name, MAP_SHARED, writable/(name, MAP_PRIVATE, writable/' acceptance 'a region is attached, and both see the same'

ok "an object that a failed create leaves is found" \
    finds '/^PUBLIC t_mapping \*create_shared_region_ex/,/^}/s/region_withdraw\(.*\);//' faults 'any call refused: all or nothing'
ok "also where there is too little memory" \
    finds '/^PUBLIC t_mapping \*create_shared_region_ex/,/^}/s/region_withdraw\(.*\);//' regions 'what is too large leaves nothing'

ok "memory that is not reserved is found" \
    finds 's/fallocate\(fd, 0, 0, /ftruncate(fd, /' acceptance 'a region is created'
ok "an object that others could read is found" finds 's/0600\);/0644);/' acceptance 'a region is created'
ok "a handle that comes twice is found" \
    finds 's/tries > 0 \&\& lowest > size \?.*/NULL;/; s/PLACE_TRIES = [0-9]+/PLACE_TRIES = 0/' handles 'a second unmap harms nobody, however late it comes'
ok "a handle that is believed is found" \
    finds '/^PUBLIC int unmap/,/^}/s/munmap\(record->own\.addr/munmap(mapping->addr/' handles 'what is written into a handle does not matter'
ok "an errno that comes from undoing is found" \
    finds '/^static t_mapping \*record_discard/,/^}/s/errno = error;//' faults 'any call refused: all or nothing'
ok "protections that are recorded and do not hold are found" \
    finds 's/mprotect\(record->own\.addr, record->own\.size, prot\)/mprotect(record->own.addr, 1, prot)/' \
    contract 'and it holds for every page'

done_testing
