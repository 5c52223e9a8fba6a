#include "lock.h"
#include "clock.h"
#include "config.h"
#include "message.h"
#include "syscall.h"
#include "thread.h"
#include <limits.h>

/* Pauses before a thread that waits for a lock sleeps, and between two looks at it: longer than a batch takes to flush,
 * as to sleep and be woken costs several times as much. */
#define SPINS      1600
#define PAUSES_MAX 256
#define WAITED_FOR ((uintptr_t)1)

/* As in linux/futex.h, which musl's compiler does not see. */
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half of a word is at its address");

#ifdef CADASTRE_DEBUG
#define CHECK_RANKS true
#else
#define CHECK_RANKS false
#endif

/* thread_own.lock_mode: by default; of lock_pass_all; of lock_forbid_all. */
enum { TAKING, PASSING, FORBIDDEN };

/* Of the locks that the thread holds, innermost last; fork holds all at once. Only where ranks are checked. */
static __thread struct {
    unsigned depth;
    unsigned ranks[LOCK_RANKS];
} held;

uintptr_t lock_self(void) {
    return (uintptr_t)&thread_own;
}

INLINE void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

static void rank_push(const struct lock *lock) {
    ASSERT(held.depth < LOCK_RANKS);
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

static bool try_acquire(struct lock *lock, uintptr_t holder) {
    uintptr_t unlocked = 0;
    return load_relaxed(&lock->word) == 0 &&
           atomic_compare_exchange_strong_explicit(&lock->word, &unlocked, holder, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* The kernel compares and waits on 32 bits: the word's low half, in which the mark is. */
static void wait_while(struct lock *lock, uintptr_t word) {
    syscall4(SYS_futex, (long)&lock->word, FUTEX_WAIT_PRIVATE, (long)(uint32_t)word, 0);
}

/* For a thread that is not to touch the locks: it goes on without, or not at all. */
static COLD void go_without(void) {
    if (thread_own.lock_mode == FORBIDDEN)
        message_die("malloc or free was called in the child of a fork that a signal handler made inside malloc, free "
                    "or fork; such a child can only exec or _exit");
}

/* What it gives is the time that the thread slept. */
static COLD uint64_t acquire_contended(struct lock *lock) {
    uintptr_t self = lock_self();
    uint64_t slept = 0;
    if (lock_is_mine(lock))
        message_die("malloc or free was called from a signal handler or a debugger that interrupted one of them; they "
                    "are not async-signal-safe");
    /* Looking ever less often leaves the lock, and what it guards, to a CPU that has it in its cache. */
    for (int spins = 0, pauses = 1; spins < SPINS;
         spins += pauses, pauses = pauses < PAUSES_MAX ? 2 * pauses : pauses) {
        for (int i = 0; i < pauses; i++)
            pause_cpu();
        if (try_acquire(lock, self))
            return 0;
    }
    /* Others may wait as well: whoever has waited leaves the mark. */
    struct lock *interrupted = thread_own.awaited;
    thread_own.awaited = lock;
    while (!try_acquire(lock, self | WAITED_FOR)) {
        go_without();
        uintptr_t word = load_relaxed(&lock->word);
        if (word != 0 && ((word & WAITED_FOR) != 0 ||
                          atomic_compare_exchange_strong_explicit(&lock->word, &word, word | WAITED_FOR,
                                                                  memory_order_relaxed, memory_order_relaxed))) {
            uint64_t start = clock_ns();
            wait_while(lock, word | WAITED_FOR);
            slept += clock_ns() - start;
        }
    }
    thread_own.awaited = interrupted;
    go_without();
    return slept;
}

void lock_acquire(struct lock *lock) {
    if (UNLIKELY(thread_own.lock_mode != TAKING)) {
        go_without();
        return;
    }
    thread_own.locks++;
    if (UNLIKELY(!try_acquire(lock, lock_self()))) {
        uint64_t slept = acquire_contended(lock);
        lock->counts.contended++;
        lock->counts.slept_ns += slept;
    }
    lock->counts.acquisitions++;
    if (CHECK_RANKS)
        rank_push(lock);
}

void lock_release(struct lock *lock) {
    if (UNLIKELY(thread_own.lock_mode != TAKING)) {
        go_without();
        return;
    }
    if (CHECK_RANKS)
        rank_pop(lock);
    memory_order order = PLANTED_RACE ? memory_order_relaxed : memory_order_release;
    uintptr_t word = atomic_exchange_explicit(&lock->word, 0, order);
    if (UNLIKELY((word & WAITED_FOR) != 0))
        syscall3(SYS_futex, (long)&lock->word, FUTEX_WAKE_PRIVATE, 1);
    thread_own.locks--;
}

bool lock_holds_any(void) {
    return thread_own.locks > 0 && thread_own.lock_mode != PASSING;
}

void lock_begin_work(void) {
    thread_own.locks++;
}

void lock_end_work(void) {
    thread_own.locks--;
}

void lock_pass_all(bool yes) {
    if (thread_own.lock_mode != FORBIDDEN)
        thread_own.lock_mode = yes ? PASSING : TAKING;
}

bool lock_was_interrupted(void) {
    return thread_own.locks > 0;
}

/* The thread may have been asleep, and would sleep on when the handler returns: nobody is left to wake it. */
void lock_forbid_all(void) {
    thread_own.lock_mode = FORBIDDEN;
    if (thread_own.awaited != NULL)
        store_relaxed(&thread_own.awaited->word, 0);
}

bool lock_is_mine(const struct lock *lock) {
    return (load_relaxed(&lock->word) & ~WAITED_FOR) == lock_self();
}

struct lock_counts lock_counts_of(struct lock *lock) {
    lock_acquire(lock);
    struct lock_counts counts = lock->counts;
    lock_release(lock);
    return counts;
}

void lock_reset(struct lock *lock) {
    if (lock_is_mine(lock)) {
        if (CHECK_RANKS)
            rank_pop(lock);
        thread_own.locks--;
    }
    /* Another library's handler may have started a thread that waits already. */
    uintptr_t word = atomic_exchange_explicit(&lock->word, 0, memory_order_release);
    if (UNLIKELY((word & WAITED_FOR) != 0))
        syscall3(SYS_futex, (long)&lock->word, FUTEX_WAKE_PRIVATE, INT_MAX);
}
