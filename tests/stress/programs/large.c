/*
 * LARGE against LARGE: spans are mapped, cut, joined, kept by threads, purged, unmapped, grown in place and moved, by
 * threads that free one another's and grow into what others have just given up.
 */
#include "stress.h"

enum { OWN = 6, SHARED = 16 };

static _Atomic uint64_t shared[SHARED];

/* Half of them small ones, as those are kept by threads; the others to the bound. */
static size_t large_size(struct rng *rng) {
    size_t least = (64 << 10) + 1;
    size_t most = 200 << 10;
    size_t fair = stress.bytes / (stress.threads * OWN + SHARED) * 2; /* the mean is half of that */
    if (rng_between(rng, 0, 1) != 0 && fair > most)
        most = fair < PACKED_SIZE_MAX ? fair : PACKED_SIZE_MAX;
    return rng_between(rng, least, most);
}

static void work(struct worker *worker) {
    struct rng *rng = &worker->rng;
    struct held own[OWN] = {{NULL, 0}};
    for (; goes_on(); worker->operations++) {
        struct held *mine = &own[rng_between(rng, 0, OWN - 1)];
        _Atomic uint64_t *slot = &shared[rng_between(rng, 0, SHARED - 1)];
        size_t action = rng_between(rng, 0, 99);
        if (action < 30)
            *mine = held_unpack(atomic_exchange_explicit(slot, held_pack(*mine), memory_order_acq_rel));
        if (action < 55 || mine->block == NULL) {
            block_release(rng, *mine);
            *mine = block_make(rng, large_size(rng));
        } else if (action < 95) {
            *mine = block_resize(rng, *mine, large_size(rng));
        } else {
            malloc_trim(0);
        }
    }
    for (size_t i = 0; i < OWN; i++)
        block_release(rng, own[i]);
}

void run_large(void) {
    struct rng rng = rng_stream(stress.seed, THREADS_MAX);
    run_threads(work, NULL);
    for (size_t i = 0; i < SHARED; i++)
        block_release(&rng, held_unpack(atomic_exchange(&shared[i], 0)));
}
