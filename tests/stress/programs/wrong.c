/*
 * Wrong frees among right ones. Each is certain to be detected: addresses inside of blocks that live on, and on the
 * stack. The blocks stay as they are.
 */
#include "stress.h"

enum { OWN = 100, SHARED = 64 };

static _Atomic uint64_t shared[SHARED];

static void free_wrongly(struct rng *rng, struct held mine) {
    char on_stack[64];
    bool inside = mine.size > 1 && rng_between(rng, 0, 3) != 0;
    void *wrong = inside ? (void *)(mine.block + rng_between(rng, 1, mine.size - 1)) : (void *)(on_stack + 16);
    switch (rng_between(rng, 0, 3)) {
    case 0:
        must(cadastre_realloc(wrong, 100) == NULL, "realloc of %p gives a block", wrong);
        break;
    case 1:
        must(cadastre_malloc_usable_size(wrong) == 0, "%p is said to be usable", wrong);
        break;
    case 2:
        cadastre_free_sized(wrong, 10);
        break;
    default:
        cadastre_free(wrong);
    }
    block_verify(mine);
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
        if (mine->block != NULL && action % 5 == 0)
            free_wrongly(rng, *mine);
        if (action < 60) {
            block_release(rng, *mine);
            *mine = block_make(rng, rng_size(rng));
        }
    }
    for (size_t i = 0; i < OWN; i++)
        block_release(rng, own[i]);
}

void run_wrong_frees(void) {
    struct rng rng = rng_stream(stress.seed, THREADS_MAX);
    must(cadastre_option_set("LOG", "/dev/null") == 0 && cadastre_option_set("ABORT", "0") == 0,
         "options are not taken");
    run_threads(work, NULL);
    must(cadastre_option_set("ABORT", "1") == 0, "options are not taken");
    for (size_t i = 0; i < SHARED; i++)
        block_release(&rng, held_unpack(atomic_exchange(&shared[i], 0)));
}
