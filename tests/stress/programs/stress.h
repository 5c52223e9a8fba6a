/*
 * What the stress scenarios share. Threads meet by one atomic word at a time, released and acquired, and by nothing
 * else: every lock of ours would be one more edge by which ThreadSanitizer takes what the allocator does for ordered.
 */
#ifndef STRESS_H
#define STRESS_H

#include "cadastre.h"
#include "names.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) /* clang's way to say it */
#define __SANITIZE_THREAD__ 1
#endif
#endif

enum { THREADS_MAX = 256 };

/* A run's parameters; constant while its threads run. */
extern struct stress {
    uint64_t seed;
    unsigned threads;
    double seconds;
    size_t bytes; /* that all threads together may hold, about */
    bool refuses; /* there may be no memory */
} stress;

/* One thread of a scenario. */
struct worker {
    unsigned index;
    struct rng rng;
    size_t operations; /* done so far, for the summary */
    pthread_t thread;
};

struct scenario {
    const char *name;
    const char *what;
    void (*run)(void);
    const char *environment[8]; /* NAME=value for the process that runs it */
};

extern const struct scenario scenarios[]; /* ends with one without a name */

/* ---------------------------------------------------------------------------------------------------- running */

/* Whether the run's time is not over. */
bool goes_on(void);

/* Runs `body` in as many threads as the run has, and meanwhile, if it is not NULL, `beside` in the calling one; until
 * the time is over and all have returned. */
void run_threads(void (*body)(struct worker *worker), void (*beside)(struct worker *worker));

/* Ends the process: what was found, and how to run it again. In a child of fork, too. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line of the summary. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define must(condition, ...)                                                                                           \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail(__VA_ARGS__);                                                                                         \
    } while (0)

/* ----------------------------------------------------------------------------------------------------- blocks
 * A block is filled with a pattern that its address and its size tell. */
struct held {
    unsigned char *block; /* NULL: none */
    size_t size;
};

/* By any of the functions that give blocks; aligned, and zero where it must be. Filled. None, where there may be no
 * memory. */
struct held block_make(struct rng *rng, size_t size);

void block_verify(struct held held);

/* By realloc or reallocarray. Verified before and after; filled anew. As it was, where there may be no memory. */
struct held block_resize(struct rng *rng, struct held held, size_t size);

/* Verified, and given back by any of the functions that do. */
void block_release(struct rng *rng, struct held held);

/* A block in one word, for a mailbox. Sizes up to PACKED_SIZE_MAX. */
enum { PACKED_SIZE_BITS = 20 };
#define PACKED_SIZE_MAX (((size_t)1 << PACKED_SIZE_BITS) - 1)

static inline uint64_t held_pack(struct held held) {
    return (uint64_t)(uintptr_t)held.block << (PACKED_SIZE_BITS - 4) | held.size;
}

static inline struct held held_unpack(uint64_t word) {
    return (struct held){(unsigned char *)(uintptr_t)(word >> PACKED_SIZE_BITS << 4), word & PACKED_SIZE_MAX};
}

/* Fails unless the heap is whole. */
void heap_must_be_valid(void);

/* -------------------------------------------------------------------------------------------------- scenarios */
void run_random(void);
void run_pairs(void);
void run_ring(void);
void run_many_to_one(void);
void run_one_to_many(void);
void run_only_frees(void);
void run_births(void);
void run_observers(void);
void run_forks(void);
void run_large(void);
void run_register(void);
void run_wrong_frees(void);
void run_pressure(void);

/* Random operations on blocks of the worker's own and on shared ones, for so many steps, or for good if that is 0; in
 * the end its own are all given back. */
void operate(struct worker *worker, size_t steps);

/* Gives back the shared ones, once nobody operates any more. */
void release_shared(struct rng *rng);

/* All threads operate, till the end; `beside` as in run_threads. */
void run_operations(void (*beside)(struct worker *worker));

#endif
