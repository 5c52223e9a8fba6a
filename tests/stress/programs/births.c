/*
 * Threads that live for a moment: they are born while others die, adopt what those leave behind, free blocks of threads
 * that are no more, and take and free still in their destructors.
 */
#include "stress.h"

enum { ESTATE = 256, BLOCKS_MAX = 60 };

/* Of destructors. ThreadSanitizer takes down what it has of a thread in the last, where it cannot run them any more. */
#ifdef __SANITIZE_THREAD__
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 4 };
#endif

/* What the dead leave to the living. */
static _Atomic uint64_t estate[ESTATE];
static pthread_key_t keys[2];
static atomic_ulong generations;

struct last_will {
    size_t rounds; /* destructors to come */
    struct held held;
    struct rng rng;
};

static void leave(struct rng *rng, struct held held) {
    _Atomic uint64_t *slot = &estate[rng_between(rng, 0, ESTATE - 1)];
    block_release(rng, held_unpack(atomic_exchange_explicit(slot, held_pack(held), memory_order_acq_rel)));
}

/* glibc calls them in rounds as long as one has set a value anew, four times at the most: after that of the library's
 * own key as well as before. The will is in a block of its own. */
static void execute(size_t key, struct last_will *will) {
    struct rng *rng = &will->rng;
    block_verify(will->held);
    leave(rng, block_make(rng, rng_size(rng)));
    will->held = block_resize(rng, will->held, rng_size(rng) + 1);
    if (--will->rounds > 0) {
        pthread_setspecific(keys[key], will);
        return;
    }
    block_release(rng, will->held);
    cadastre_free(will);
}

static void execute_first(void *will) {
    execute(0, will);
}

static void execute_second(void *will) {
    execute(1, will);
}

static void make_will(struct rng *rng, size_t key) {
    struct last_will *will = cadastre_malloc(sizeof *will);
    *will =
        (struct last_will){rng_between(rng, 1, ROUNDS), block_make(rng, rng_size(rng)), rng_stream(rng_next(rng), key)};
    pthread_setspecific(keys[key], will);
}

static void *live(void *number) {
    struct rng rng = rng_stream(stress.seed, (uintptr_t)number);
    size_t count = rng_between(&rng, 0, BLOCKS_MAX);
    if (rng_between(&rng, 0, 1) != 0)
        make_will(&rng, 0);
    while (count-- > 0)
        leave(&rng, block_make(&rng, rng_size(&rng)));
    if (rng_between(&rng, 0, 1) != 0)
        make_will(&rng, 1);
    return NULL;
}

static void bear(struct worker *worker) {
    while (goes_on()) {
        pthread_t children[3];
        size_t count = rng_between(&worker->rng, 1, 3);
        for (size_t i = 0; i < count; i++) {
            uintptr_t number = atomic_fetch_add(&generations, 1) + 2 * THREADS_MAX;
            must(pthread_create(&children[i], NULL, live, (void *)number) == 0, "no thread");
        }
        for (size_t i = 0; i < count; i++)
            pthread_join(children[i], NULL);
        worker->operations += count;
    }
}

void run_births(void) {
    struct rng rng = rng_stream(stress.seed, THREADS_MAX);
    /* Before and after the library's own, which is made when it boots: in no order that is promised. */
    must(pthread_key_create(&keys[0], execute_first) == 0 && pthread_key_create(&keys[1], execute_second) == 0,
         "no key");
    run_threads(bear, NULL);
    for (size_t i = 0; i < ESTATE; i++)
        block_release(&rng, held_unpack(atomic_exchange(&estate[i], 0)));
}
