/*
 * One end of a ring, in a handle: whose it is at the moment, and how it is waited at. What the words mean, and the
 * protocols, stand in ring_layout.h.
 *
 * A header, so that ring_buffer.c is all that a program must compile; it is the only one that includes it.
 */
#ifndef RING_END_H
#define RING_END_H

#include "ring_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SPINS = 30,         /* looks before sleeping: some hundred nanoseconds, to two microseconds */
    VAIN_MOST = 4,      /* then it is a few looks */
    AHEAD = 1024,       /* bytes: see prefetch_for_writing */
    SLICE_MS = 100,     /* the longest sleep without a look */
    CREATION_MS = 1000, /* that an attaching process waits for the creator */
    NS_PER_MS = 1000000,
};

/* Until when a call may wait: a time of CLOCK_MONOTONIC in nanoseconds, or one of these. */
#define AT_ONCE 0
#define FOREVER INT64_MAX

/* One side of the ring, in a handle. Lines apart: a process may have a writer and a reader. */
struct end {
    _Alignas(RING_LINE) struct ring_side *side, *other;
    uint64_t role;         /* RING_SPSC: what `side->role` was when it became ours; under `busy` */
    uint64_t seen;         /* the other side's position when last looked at: it is no less now; under the turn */
    unsigned vain;         /* the last waits that spun for nothing; under the turn or `busy` */
    _Atomic uint64_t busy; /* RING_SPSC: the role whose thread is at it; 0: none is */
};

/* ------------------------------------------------------------------------------------------- identities */

/* A process: its number, and when it started, as numbers are used again. The highest bits are a handle's serial. */
#define PID_BITS    22
#define SERIAL_BITS 16
#define PID_MASK    ((UINT64_C(1) << PID_BITS) - 1)
#define SERIAL_AT   (64 - SERIAL_BITS)
#define START_MASK  ((UINT64_C(1) << (SERIAL_AT - PID_BITS)) - 1)

/* Field 22 of /proc/PID/stat, in clock ticks since boot; 0 if it cannot be read. */
static inline uint64_t process_start(pid_t pid) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = '\0';
    /* Field 2 is the program's name in brackets, and may have spaces and brackets in it. */
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    uint64_t start = 0;
    while (at && *++at >= '0' && *at <= '9')
        start = 10 * start + (uint64_t)(*at - '0');
    return start;
}

static inline uint64_t process_identity(pid_t pid) {
    return (uint64_t)pid | (process_start(pid) & START_MASK) << PID_BITS;
}

/* Whether the process of which this is the identity may be alive: in doubt it is. */
static inline bool process_lives(uint64_t identity) {
    pid_t pid = (pid_t)(identity & PID_MASK);
    uint64_t start = identity >> PID_BITS & START_MASK;
    int file = (int)syscall(SYS_pidfd_open, pid, 0);
    if (file < 0)
        return errno != ESRCH && errno != EINVAL && errno != ENOENT; /* no process, or but a thread */
    struct pollfd ended = {.fd = file, .events = POLLIN};
    bool lives = poll(&ended, 1, 0) != 1; /* also tells a zombie */
    close(file);
    uint64_t start_now = process_start(pid) & START_MASK;
    return lives && (start == 0 || start_now == 0 || start == start_now);
}

/* The calling thread, as the kernel knows it. */
static __thread struct {
    uint64_t process; /* for which the rest holds */
    uint32_t number;
    struct robust_list_head *robust; /* what the C library registered; NULL: nothing, as in emulators */
} self;

static inline void self_know(uint64_t process) {
    size_t size;
    if (__builtin_expect(self.process == process, 1))
        return;
    self.number = (uint32_t)syscall(SYS_gettid);
    if (syscall(SYS_get_robust_list, 0, &self.robust, &size) != 0 || size != sizeof *self.robust)
        self.robust = NULL;
    self.process = process;
}

/* ---------------------------------------------------------------------------------------------- waiting */

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

static inline int64_t deadline(int timeout_ms) {
    return timeout_ms < 0 ? FOREVER : now_ns() + (int64_t)timeout_ms * NS_PER_MS;
}

/* Some time passes, for the try'th time; false: it is time to sleep. */
static inline bool spin(unsigned try) {
    if (try >= SPINS)
        return false;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
    return true;
}

/* Sleeps while the word has this value, for a slice at most. 0 or ETIMEDOUT: `until` had come before. */
static inline int futex_sleep(_Atomic uint32_t *word, uint32_t value, int64_t until) {
    int64_t length = (int64_t)SLICE_MS * NS_PER_MS;
    if (until != FOREVER) {
        int64_t left = until - now_ns();
        if (left <= 0)
            return ETIMEDOUT;
        length = left < length ? left : length;
    }
    struct timespec slice = {.tv_nsec = length};
    syscall(SYS_futex, word, FUTEX_WAIT, value, &slice, NULL, 0);
    return 0;
}

static inline void futex_wake_one(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Wakes who sleeps on this side, whatever for. */
static inline void side_wake(struct ring_side *side) {
    atomic_store(&side->wanted, 0);
    atomic_fetch_add(&side->event, 1);
    futex_wake_one(&side->event);
}

/* The same after publishing, when `available` bytes are there. */
static inline void side_tell(struct ring_side *side, uint64_t available) {
    uint64_t wanted = atomic_load(&side->wanted);
    if (__builtin_expect(wanted != 0, 0) && wanted <= available)
        side_wake(side);
}

/* Turn or role came from one who died, maybe between publishing and waking. */
static inline void end_inherited(struct end *end) {
    atomic_fetch_add_explicit(&end->side->inherited, 1, memory_order_relaxed);
    side_wake(end->other);
}

/* ------------------------------------------------------------------------------------------------ turns */

/* Tells the kernel which word the thread is about to take, has, or is about to wake others for. */
static inline void turn_announce(_Atomic uint32_t *turn) {
    atomic_signal_fence(memory_order_seq_cst);
    if (self.robust)
        *(struct robust_list *volatile *)&self.robust->list_op_pending =
            turn ? (struct robust_list *)((char *)turn - self.robust->futex_offset) : NULL;
    atomic_signal_fence(memory_order_seq_cst);
}

static inline int turn_wait(_Atomic uint32_t *turn, uint32_t word, int64_t until) {
    if (!(word & FUTEX_WAITERS)) {
        if (!atomic_compare_exchange_strong(turn, &word, word | FUTEX_WAITERS))
            return 0;
        word |= FUTEX_WAITERS;
    }
    int error = futex_sleep(turn, word, until);
    /* The kernel marks what the dead had: a word with a number that nobody has was overwritten. */
    pid_t owner = (pid_t)(word & FUTEX_TID_MASK);
    if (atomic_load(turn) == word && kill(owner, 0) != 0 && errno == ESRCH)
        atomic_compare_exchange_strong(turn, &word, FUTEX_WAITERS | FUTEX_OWNER_DIED);
    return error;
}

static inline int turn_take(struct end *end, int64_t until) {
    _Atomic uint32_t *turn = &end->side->turn;
    uint32_t waiters = 0; /* FUTEX_WAITERS, once we have slept: others may be asleep still */
    turn_announce(turn);
    for (unsigned try = 0;; try++) {
        uint32_t word = atomic_load_explicit(turn, memory_order_relaxed);
        int error = 0;
        if ((word & FUTEX_TID_MASK) == 0) {
            uint32_t taken = self.number | waiters | (word & FUTEX_WAITERS);
            if (atomic_compare_exchange_strong_explicit(turn, &word, taken, memory_order_acquire,
                                                        memory_order_relaxed)) {
                if (__builtin_expect(word & FUTEX_OWNER_DIED, 0))
                    end_inherited(end);
                return 0;
            }
        } else if ((word & FUTEX_TID_MASK) == self.number) {
            error = EDEADLK;
        } else if (until == AT_ONCE && try >= SPINS) {
            error = EAGAIN;
        } else if (!spin(try)) {
            waiters = FUTEX_WAITERS;
            error = turn_wait(turn, word, until);
        }
        if (error) {
            /* Of an operation that was interrupted the turn stays announced. */
            if (error != EDEADLK)
                turn_announce(NULL);
            return error;
        }
    }
}

static inline void turn_release(struct end *end) {
    if (atomic_exchange_explicit(&end->side->turn, 0, memory_order_release) & FUTEX_WAITERS)
        futex_wake_one(&end->side->turn);
    turn_announce(NULL);
}

/* ------------------------------------------------------------------------------------------------ roles */

static inline int role_claim(struct end *end, uint64_t role) {
    uint64_t owner = atomic_load(&end->side->role);
    uint64_t serials = ((UINT64_C(1) << SERIAL_BITS) - 1) << SERIAL_AT;
    if (owner != 0 && (((owner ^ role) & ~serials) == 0 || process_lives(owner & ~serials)))
        return EBUSY;
    if (!atomic_compare_exchange_strong(&end->side->role, &owner, role))
        return EBUSY;
    end->role = role;
    if (owner != 0)
        end_inherited(end);
    return 0;
}

/* `busy` is no lock: nobody waits for it. It names the process, for a child may inherit it as it was in the midst. */
static inline int role_enter(struct end *end, uint64_t role) {
    uint64_t busy = atomic_load_explicit(&end->busy, memory_order_relaxed);
    if (busy == role ||
        !atomic_compare_exchange_strong_explicit(&end->busy, &busy, role, memory_order_acquire, memory_order_relaxed))
        return EBUSY;
    int error = end->role == role ? 0 : role_claim(end, role);
    if (error)
        atomic_store_explicit(&end->busy, 0, memory_order_release);
    return error;
}

static inline void role_leave(struct end *end) {
    atomic_store_explicit(&end->busy, 0, memory_order_release);
}

#endif
