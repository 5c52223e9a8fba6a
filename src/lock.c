#include "lock.h"
#include "message.h"
#include "syscall.h"
#include <linux/futex.h>

#define SPINS 100

#ifdef CADASTRE_DEBUG
#define CHECK_RANKS true
#else
#define CHECK_RANKS false
#endif

/* Locks held by this thread, innermost last; fork holds all at once. Its address also names the thread. */
static __thread struct {
    unsigned depth;
    unsigned ranks[LOCK_METADATA + 1];
} held;

uintptr_t lock_self(void) {
    return (uintptr_t)&held;
}

INLINE void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

static void rank_push(const struct lock *lock) {
    ASSERT(held.depth <= LOCK_METADATA);
    ASSERT(held.depth == 0 || held.ranks[held.depth - 1] < lock->rank);
    held.ranks[held.depth++] = lock->rank;
}

/* Releases need not mirror acquisitions (fork gives all back in lock order). */
static void rank_pop(const struct lock *lock) {
    unsigned at = held.depth;
    while (at > 0 && held.ranks[at - 1] != lock->rank)
        at--;
    ASSERT(at > 0);
    for (held.depth--; at <= held.depth; at++)
        held.ranks[at - 1] = held.ranks[at];
}

static COLD void acquire_contended(struct lock *lock) {
    if (load_relaxed(&lock->owner) == lock_self())
        message_die("malloc or free was called from a signal handler that interrupted them in the same thread; "
                    "they are not async-signal-safe");
    for (int i = 0; i < SPINS; i++) {
        pause_cpu();
        unsigned unlocked = 0;
        if (load_relaxed(&lock->word) == 0 &&
            atomic_compare_exchange_weak_explicit(&lock->word, &unlocked, 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return;
    }
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0)
        syscall4(SYS_futex, (long)&lock->word, FUTEX_WAIT_PRIVATE, 2, 0);
}

void lock_acquire(struct lock *lock) {
    unsigned unlocked = 0;
    if (UNLIKELY(!atomic_compare_exchange_strong_explicit(&lock->word, &unlocked, 1, memory_order_acquire,
                                                          memory_order_relaxed)))
        acquire_contended(lock);
    store_relaxed(&lock->owner, lock_self());
    if (CHECK_RANKS)
        rank_push(lock);
}

void lock_release(struct lock *lock) {
    if (CHECK_RANKS)
        rank_pop(lock);
    store_relaxed(&lock->owner, 0);
    if (UNLIKELY(atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2))
        syscall3(SYS_futex, (long)&lock->word, FUTEX_WAKE_PRIVATE, 1);
}

bool lock_is_mine(const struct lock *lock) {
    return load_relaxed(&lock->owner) == lock_self();
}

void lock_reset(struct lock *lock) {
    if (CHECK_RANKS && lock_is_mine(lock))
        rank_pop(lock);
    store_relaxed(&lock->owner, 0);
    store_relaxed(&lock->word, 0);
}
