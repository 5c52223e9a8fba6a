/*
 * Blocks freed by threads that did not take them, in every topology: it says to whom each thread sends what it takes.
 * A thread has a box, of slots that hold one block each.
 */
#include "stress.h"

#include <sched.h>

enum { SLOTS = 32, NOBODY = THREADS_MAX };

static struct { _Atomic uint64_t slots[SLOTS]; } boxes[THREADS_MAX];

static unsigned (*receiver)(unsigned sender, struct rng *rng);

static uint64_t take_from_box(unsigned box, size_t slot) {
    _Atomic uint64_t *at = &boxes[box].slots[slot];
    /* Looked at first: most are empty, and a thread that looks is not to order what it does with the others. */
    return atomic_load_explicit(at, memory_order_relaxed) == 0 ? 0
                                                               : atomic_exchange_explicit(at, 0, memory_order_acquire);
}

/* Whether there was a place for it. */
static bool put_into_box(unsigned box, size_t slot, struct held held) {
    uint64_t empty = 0;
    return atomic_compare_exchange_strong_explicit(&boxes[box].slots[slot], &empty, held_pack(held),
                                                   memory_order_release, memory_order_relaxed);
}

static size_t empty_box(struct worker *worker) {
    size_t freed = 0;
    for (size_t slot = 0; slot < SLOTS; slot++) {
        uint64_t word = take_from_box(worker->index, slot);
        if (word == 0)
            continue;
        block_release(&worker->rng, held_unpack(word));
        freed++;
    }
    worker->operations += freed;
    return freed;
}

static void send(struct worker *worker, unsigned to) {
    struct rng *rng = &worker->rng;
    /* Few sizes above TINY: this is about passing blocks, not about filling them. */
    size_t size = rng_between(rng, 0, 49) != 0 ? rng_between(rng, 0, 600) : rng_size(rng);
    struct held held = block_make(rng, size);
    size_t slot = rng_between(rng, 0, SLOTS - 1);
    for (size_t tries = 0; !put_into_box(to, slot, held); tries++) {
        if (!goes_on()) {
            block_release(rng, held);
            return;
        }
        slot = (slot + 1) % SLOTS;
        /* It is full: its owner may wait for this thread just so. */
        if (tries % SLOTS == SLOTS - 1 && empty_box(worker) == 0)
            sched_yield();
    }
    worker->operations++;
}

static void take_and_free(struct worker *worker) {
    while (goes_on()) {
        unsigned to = receiver(worker->index, &worker->rng);
        if (to != NOBODY) /* a burst, so that caches run empty and full */
            for (size_t left = rng_between(&worker->rng, 1, SLOTS); left > 0; left--)
                send(worker, to);
        if (empty_box(worker) == 0 && to == NOBODY)
            sched_yield();
    }
}

static void run(unsigned (*who)(unsigned, struct rng *)) {
    struct worker last = {.rng = rng_stream(stress.seed, THREADS_MAX)};
    receiver = who;
    stress.threads += stress.threads % 2; /* so that each has a partner */
    run_threads(take_and_free, NULL);
    for (last.index = 0; last.index < stress.threads; last.index++)
        empty_box(&last);
}

/* --------------------------------------------------------------------------------------------------- topologies */
static unsigned partner(unsigned sender, struct rng *rng) {
    (void)rng;
    return sender ^ 1;
}

static unsigned next(unsigned sender, struct rng *rng) {
    (void)rng;
    return (sender + 1) % stress.threads;
}

static unsigned first(unsigned sender, struct rng *rng) {
    (void)rng;
    return sender == 0 ? NOBODY : 0;
}

static unsigned from_first_to_any(unsigned sender, struct rng *rng) {
    return sender != 0 ? NOBODY : (unsigned)rng_between(rng, 1, stress.threads - 1);
}

static unsigned from_lower_half_to_upper(unsigned sender, struct rng *rng) {
    unsigned half = stress.threads / 2;
    return sender >= half ? NOBODY : half + (unsigned)rng_between(rng, 0, half - 1);
}

void run_pairs(void) {
    run(partner);
}

void run_ring(void) {
    run(next);
}

void run_many_to_one(void) {
    run(first);
}

void run_one_to_many(void) {
    run(from_first_to_any);
}

void run_only_frees(void) {
    run(from_lower_half_to_upper);
}
