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
    build "$WORK/changed.c" "$2" changed || return 1
    run changed "$3" || status=$?
    case $status in
    0) echo "passes with the change, too"; return 1 ;;
    124 | 137) echo "hangs with the change"; return 1 ;;
    esac
    rm -rf /dev/shm/mapper-test-$$-*
}

# The cases, and the functions in which faults are planted, as addresses of sed.
any_refused='any call refused: all or nothing'
memory_shared='anonymous memory is shared with children'
nothing_left='unmap leaves nothing in maps, descriptors and /dev/shm'
region_attached='a region is attached, and both see the same'
record_map='/^static int record_map/,/^}/'
record_discard='/^static t_mapping \*record_discard/,/^}/'
unmap='/^PUBLIC int unmap/,/^}/'
create='/^PUBLIC t_mapping \*create_shared_region_ex/,/^}/'

change="${record_map}s/addr == MAP_FAILED/addr == NULL/"
ok "MAP_FAILED as an address is found" \
    finds "$change" contract 'anonymous memory has the size asked for, if there can be so much'
ok "also where a call is refused" finds "$change" faults "$any_refused"

change='s/if \(record->own\.fd >= 0 && close_fd.*/if (0)/'
ok "a descriptor that unmap leaves open is found" finds "$change" acceptance "$nothing_left"
ok "also when they run out" finds "$change" handles '10,000 cycles of every kind with 64 descriptors'
ok "and one that a failure leaves open" \
    finds "${record_discard}s/record_release\(record\)/munmap(record, record->size)/" \
    contract 'what is no file is refused, without blocking'

ok "a munmap of one page of several is found" \
    finds "${unmap}s/own\.addr, record->own\.size/own.addr, 4096/" acceptance "$nothing_left"
ok "so is one of a page less" \
    finds "${unmap}s/own\.addr, record->own\.size/own.addr, record->own.size - 4096/" acceptance "$nothing_left"
ok "and one after a failure" \
    finds "${record_discard}s/own\.addr, record->own\.size/own.addr, 4096/" faults "$any_refused"

ok "a writable file mapped MAP_PRIVATE is found" \
    finds 's/writable \? MAP_SHARED : MAP_PRIVATE/MAP_PRIVATE/' \
    acceptance 'a file is written, and has it after sync_mapping'
ok "so is shared anonymous memory" \
    finds 's/shared \? MAP_SHARED : MAP_PRIVATE/MAP_PRIVATE/' acceptance "$memory_shared"
ok "so is a new region" finds "${create}s/MAP_SHARED/MAP_PRIVATE/" acceptance "$region_attached"
ok "and one that is attached" finds 's/\(name, MAP_SHARED, writable/(name, MAP_PRIVATE, writable/' \
    acceptance "$region_attached"

change="${create}s/region_withdraw\(.*\);//"
ok "an object that a failed create leaves is found" finds "$change" faults "$any_refused"
ok "also where there is too little memory" finds "$change" regions 'what is too large leaves nothing'

ok "memory that is not reserved is found" \
    finds 's/fallocate\(fd, 0, 0, /ftruncate(fd, /' acceptance 'a region is created'
ok "an object that others could read is found" finds 's/0600\);/0644);/' acceptance 'a region is created'
ok "a handle that comes twice is found" finds 's/PLACE_TRIES = [0-9]+/PLACE_TRIES = 0/' \
    handles 'a second unmap harms nobody, however late it comes'
ok "a handle that is believed is found" finds "${unmap}s/munmap\(record->own\.addr/munmap(mapping->addr/" \
    handles 'what is written into a handle does not matter'
ok "an unmap that does not wait for others is found" finds 's/ && record->users > 0/ \&\& 0/' \
    threads 'a mapping that all use is ended by one of them'
ok "an errno that comes from undoing is found" finds "${record_discard}s/errno = error;//" faults "$any_refused"
ok "protections that do not hold are found" finds 's/(mprotect\(record->own\.addr), record->own\.size/\1, 1/' \
    contract 'and it holds for every page'

done_testing
