/*
 * What processes share in a ring, and who may do what to it when.
 *
 *     | struct ring_shared (up to RING_DATA) | capacity bytes of data |
 *
 * There are no pointers in it, for it lies at another address in each process; and nothing in it is believed: every
 * process keeps the capacity in memory of its own, and positions that an operation uses and that cannot be are an error
 * (EBADMSG), before anything is copied. So whatever is written into these pages, no access goes beyond them.
 *
 * **Positions.** `writers.position` is the head: bytes written; `readers.position` the tail: bytes read.
 *
 *     tail <= head <= tail + capacity
 *
 * and the ring holds the bytes [tail, head), the byte of position p at data[p % capacity]. Only the writer whose turn
 * it is moves the head, only the reader whose turn it is the tail, each by one atomic store at the end, after the
 * copying: so one who is killed has published all or nothing, and there is never anything to be repaired. The head's
 * highest bit marks the end of the stream. Anyone may set it; a writer publishes by compare-and-swap, so that no byte
 * comes after the end, and a reader that finds the ring ended and empty may say so.
 *
 * **Turns.** One writer at a time and one reader at a time, also while it waits: so a write is never interleaved with
 * another, a large one is not starved by small ones, and of all that wait only one is woken. The turn is a robust futex
 * lock: the thread's number, FUTEX_WAITERS and FUTEX_OWNER_DIED in one word. The kernel marks it when its owner dies,
 * which it finds out by list_op_pending of the thread's list of robust mutexes (set_robust_list(2), which the C library
 * has registered): there a thread names the one turn that it is about to take, has, or is about to wake others for.
 * A robust pthread_mutex_t would be links between processes' mutexes in shared memory, which unlocking follows and
 * writes through. Who gets a turn from a dead owner (EOWNERDEAD, in pthread's words) counts that, and wakes the other
 * side, as the dead may have published without doing so.
 *
 * **Roles.** With RING_SPSC nobody takes turns. A handle plays a side from its first operation on: `role` names its
 * process, when that started, and the handle. It is compared with the handle's own at every operation, and taken over
 * only from a process that is no more.
 *
 * **Waiting.** Who needs data or room
 *
 *     1. looks a few times;  2. reads `event`;  3. stores in `wanted` how many bytes it needs;  4. looks again;
 *     5. sleeps while `event` is what it was.
 *
 * Who has published looks at the other side's `wanted`, and if that can be had now, sets it to 0, counts `event` up and
 * wakes one, the only one. Nobody sleeps longer than SLICE_MS without looking: a peer that is killed between
 * publishing and waking takes the wake-up along, and without turns nothing tells.
 *
 * **Order.** A position is published with release and read with acquire, so that the bytes are there before it, and
 * read out before their place is used again. Publishing and then looking at `wanted`, storing `wanted` and then looking
 * at the position: of these four at least one sees the other's (sequential consistency), so no wake-up is lost. A
 * turn is taken with acquire and released with release, which orders what its owners note in a handle of theirs: the
 * other side's position when they last looked. It only grows, so the room or data that follows from it is there.
 */
#ifndef RING_LAYOUT_H
#define RING_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define RING_MAGIC UINT64_C(0x31676e6972646163) /* "cadring1", the number being that of this layout */
#define RING_DATA  4096                         /* where the data begins */
#define RING_LINE  128                          /* x86-64 fetches lines of 64 bytes in pairs */

enum ring_framing { RING_UNDECIDED, RING_BYTES, RING_MESSAGES };

struct ring_side {
    /* Written at each operation by this side, and read by the other when it needs to know. */
    _Alignas(RING_LINE) _Atomic uint64_t position; /* by the owner of the turn; the head's highest bit by anyone */
    /* For this side alone. */
    _Alignas(RING_LINE) _Atomic uint64_t role; /* RING_SPSC: who plays this side; 0: nobody yet */
    _Atomic uint32_t turn;                     /* whose turn it is; 0: nobody's */
    _Atomic uint32_t inherited;                /* times that turn or role came from a dead owner */
    /* Read by the other side at each operation, and written when this one sleeps. */
    _Alignas(RING_LINE) _Atomic uint64_t wanted; /* bytes that are slept for; 0: none */
    _Atomic uint32_t event;                      /* counts wake-ups */
};

struct ring_shared {
    _Atomic uint64_t magic;   /* written last by the creator: from then on all but `framing` is constant */
    uint64_t capacity;        /* bytes */
    uint64_t pid_namespace;   /* inode of the creator's /proc/self/ns/pid; 0: not known */
    uint32_t flags;           /* RING_SPSC, or 0 */
    _Atomic uint32_t framing; /* enum ring_framing; changes once */
    struct ring_side writers, readers;
};

_Static_assert(sizeof(struct ring_shared) <= RING_DATA, "the data begins behind it");
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "a handle shows positions as size_t");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "locks of the C library's are per process");

#endif
