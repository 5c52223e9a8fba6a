/*
 * A futex lock that knows its rank and its owner.
 *
 * Own, and not pthread's, because a child of fork must be able to reset it, because the owner tells a slow path that a
 * signal handler re-entered (reported instead of hung), and because it may not touch errno.
 *
 * Lock order: ascending rank; locks of rank LOCK_ARENA among themselves by ascending index. Checked in debug builds.
 */
#ifndef LOCK_H
#define LOCK_H

#include "base.h"

enum lock_rank {
    LOCK_BOOT,
    LOCK_OPTIONS,
    LOCK_ARENA, /* + index */
    LOCK_LARGE = LOCK_ARENA + 64,
    LOCK_METADATA,
    LOCK_LEDGER, /* of the debugging modes, as the next */
    LOCK_QUARANTINE,
    LOCK_RANKS,
};

/* The word names the holder, so that at no instant is a lock held by nobody: a signal may arrive at any. */
struct lock {
    _Atomic uintptr_t word; /* 0 free; else lock_self() of the holder, plus 1 if it may be waited for */
    unsigned rank;          /* constant */
    struct lock_counts {    /* since the start; under the lock itself */
        uint64_t acquisitions;
        uint64_t contended; /* of which another thread held it */
        uint64_t slept_ns;  /* for those, asleep in the kernel: what was waited spinning is too short to be timed */
    } counts;
};

#define LOCK_INIT(lock_rank)                                                                                           \
    { .rank = (lock_rank) }

/* Identifies the calling thread among the living; an even number. */
uintptr_t lock_self(void);

/* Aborts with a message when the calling thread holds the lock already: only a signal handler can come to that. */
void lock_acquire(struct lock *lock);
void lock_release(struct lock *lock);
bool lock_is_mine(const struct lock *lock);

/* How it was used so far; takes it for that. */
struct lock_counts lock_counts_of(struct lock *lock);

/* Whether the calling thread holds a lock, or what counts as one: then it was interrupted in the midst of something. */
bool lock_holds_any(void);

/* Work without a lock that counts as one: a child of fork undoes such work where a vanished thread was at it, and is
 * not to undo the forking thread's own, which a signal handler has interrupted to fork. Work between two locks begins
 * under the first and ends under the second. */
void lock_begin_work(void);
void lock_end_work(void);

/* For the thread that forks, while it holds every lock: other libraries' handlers of fork, which run in it meanwhile,
 * may allocate. Its locks let it pass, until it says no. */
void lock_pass_all(bool yes);

/* Whether a signal handler that forks has interrupted the calling thread in the midst of something, or in a fork. */
bool lock_was_interrupted(void);

/* In the child of such a fork, where what the locks guard may be half done, and nobody is left to give them back: from
 * now on, whoever comes to a lock says so and aborts. */
void lock_forbid_all(void);

/* In the child of fork, where no thread lives that could have held it but the calling one: free, whoever did. */
void lock_reset(struct lock *lock);

#endif
