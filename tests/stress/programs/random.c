/*
 * Random operations, on blocks of the thread's own and on some that all threads share: who takes one out of the shared
 * slots has it for itself.
 */
#include "stress.h"

enum { OWN = 200, SHARED = 128 };

static _Atomic uint64_t shared[SHARED];

/* Of `rng_size`, the mean is 4 KiB. */
static size_t size_within_bounds(struct rng *rng) {
    size_t most = stress.bytes / (stress.threads * OWN + SHARED) * 4;
    size_t size = rng_size(rng);
    return size < most ? size : most;
}

static struct held exchange(struct rng *rng, struct held mine) {
    _Atomic uint64_t *slot = &shared[rng_between(rng, 0, SHARED - 1)];
    return held_unpack(atomic_exchange_explicit(slot, held_pack(mine), memory_order_acq_rel));
}

static void operate_on(struct rng *rng, struct held *mine) {
    size_t action = rng_between(rng, 0, 99);
    if (action < 30)
        *mine = exchange(rng, *mine);
    if (action < 60) {
        block_release(rng, *mine);
        *mine = block_make(rng, size_within_bounds(rng));
    } else if (action < 75 && mine->block != NULL) {
        *mine = block_resize(rng, *mine, size_within_bounds(rng));
    } else {
        block_verify(*mine);
    }
}

void operate(struct worker *worker, size_t steps) {
    struct held own[OWN] = {{NULL, 0}};
    for (size_t step = 0; steps == 0 ? goes_on() : step < steps; step++) {
        operate_on(&worker->rng, &own[rng_between(&worker->rng, 0, OWN - 1)]);
        worker->operations++;
    }
    for (size_t i = 0; i < OWN; i++)
        block_release(&worker->rng, own[i]);
}

static void operate_till_the_end(struct worker *worker) {
    operate(worker, 0);
}

void release_shared(struct rng *rng) {
    for (size_t i = 0; i < SHARED; i++)
        block_release(rng, held_unpack(atomic_exchange(&shared[i], 0)));
}

void run_operations(void (*beside)(struct worker *worker)) {
    struct rng rng = rng_stream(stress.seed, THREADS_MAX);
    run_threads(operate_till_the_end, beside);
    release_shared(&rng);
}

void run_random(void) {
    run_operations(NULL);
}
