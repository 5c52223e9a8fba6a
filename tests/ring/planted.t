#!/usr/bin/env bash
# usage: tests/ring/planted.t
# Plants faults in copies of the ring's source, one at a time, and holds the tests to finding each: the case that is
# named must fail on it, and pass without it.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

export RING_TEST=planted-$$
trap 'rm -rf "$WORK" /dev/shm/ring-test-planted-$$-*' EXIT

# build DIRECTORY TEST PROGRAM
build() {
    $CC -std=c11 -D_GNU_SOURCE -w -O1 -g -pthread -I"$ROOT/include" -I"$ROOT/tests" "$ROOT/tests/ring/$2.c" \
        "$1"/*.c -o "$WORK/$3"
}

run() {
    timeout -k 10 100 "$WORK/$1" "$2"
}

# finds FILE SED TEST CASE: the test's CASE passes as it is, and fails with the change in FILE.
finds() {
    local file=$WORK/changed/$1 status=0
    rm -rf "$WORK/changed"
    cp -r "$ROOT/src/mapper" "$WORK/changed"
    sed -i -E "$2" "$file"
    if cmp -s "$file" "$ROOT/src/mapper/$1"; then
        echo "nothing was changed by: $2"
        return 1
    fi
    [ -x "$WORK/$3" ] || build "$ROOT/src/mapper" "$3" "$3" || return 1
    run "$3" "$4" || { echo "fails without the change"; return 1; }
    build "$WORK/changed" "$3" program || return 1
    run program "$4" || status=$?
    case $status in
    0) echo "passes with the change, too"; return 1 ;;
    124 | 137) echo "hangs with the change"; return 1 ;;
    esac
    rm -f /dev/shm/ring-test-planted-$$-*
}

inherits='the next one inherits a turn'
taken_over='a role is taken over from the dead alone'
lengths='impossible lengths are errors'

ok "a turn that the kernel does not know of is found" \
    finds ring_end.h 's/if \(self\.robust\)/if (0)/' killed "$inherits"
ok "so is one that nobody inherits" \
    finds ring_end.h 's/\(word & FUTEX_TID_MASK\) == 0\)/(word \& ~FUTEX_WAITERS) == 0)/' killed "$inherits"
ok "and one that is nobody's for ever" finds ring_end.h 's/ && errno == ESRCH\)/ \&\& 0)/' \
    damaged "a turn or role that is nobody's can be taken"
ok "a role that is not taken over is found" \
    finds ring_end.h 's/process_lives\(owner & ~serials\)/1/' killed "$taken_over"
ok "also if a zombie is taken for alive" finds ring_end.h 's/poll\(&ended, 1, 0\) != 1/1/' killed "$taken_over"
ok "or another process for the one that was" finds ring_end.h 's/start == start_now\)/1)/' killed "$taken_over"
ok "a role that is taken from the living is found" finds ring_end.h 's/process_lives\(owner & ~serials\)/0/' \
    contract 'with RING_SPSC the second writer or reader gets EBUSY'
ok "a second thread that does not get EBUSY is found" finds ring_end.h 's/busy == role/0/; s/&busy, role/\&busy, 0/' \
    threads 'with RING_SPSC, of two threads on one handle one gets EBUSY'
change='/^static int put_message/,/^}/{
    s/ring_copy_in\(ring, found\.position \+ sizeof header/ring_publish(ring, found, sizeof header);
        found.position += sizeof header, found.available -= sizeof header;
        ring_copy_in(ring, found.position/
    s/ring_publish\(ring, found, sizeof header \+ len\)/ring_publish(ring, found, len)/
}'
ok "a message that is published by halves is found" \
    finds ring_buffer.c "${change//$'\n'        /}" threads 'messages of many writers come whole to many readers'
change='/^static int put_bytes/,/^}/{
    /ring_copy_in/d
    s/error = ring_publish.*/& ring_copy_in(ring, found.position, data + *done, size);/
}'
ok "bytes that are published before they are there are found" \
    finds ring_buffer.c "$change" killed 'killed at random: two writers of bytes, whose reader finds whole records'
ok "positions that are believed are found" \
    finds ring_buffer.c '/^static int ring_look/,/^}/s/  if \(used > capacity\)$/  if (0)/' \
    damaged 'impossible positions are errors'
ok "lengths that are believed are found" \
    finds ring_buffer.c 's/header == 0 \|\| header > found\.available - sizeof header/0/' damaged "$lengths"
ok "a sleeper that is not woken is found" finds ring_end.h 's/&& wanted <= available/\&\& 0/' \
    threads 'who sleeps is woken, and not for too little'
ok "an end that wakes nobody is found" finds ring_buffer.c 's/side_wake\(&ring->shared->readers\)//' \
    threads 'the end wakes all'
change='s/if \(.*\)$/atomic_store(\&ring->shared->writers.position, found.position + size); if (0)/'
ok "a byte that comes after the end is found" \
    finds ring_buffer.c "/^static int ring_publish/,/^}/$change" threads 'the end is the end'
ok "a child that ends its parent's ring is found" finds ring_buffer.c 's/ring->creator == process/ring->creator/' \
    contract 'only its creator ends a ring; others detach'
ok "a region that destroy leaves mapped is found" finds ring_buffer.c 's/unmap\(rb->mapping\)//' \
    contract '10,000 times, with 64 descriptors, and nothing is left'
ok "so is what a failure leaves" \
    finds ring_buffer.c '/^static t_ring_buffer \*handle_drop/,/^}/s/unmap\(ring->pages\)//' \
    contract 'a failed create or attach is undone'

done_testing
