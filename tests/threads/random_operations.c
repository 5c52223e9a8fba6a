/*
 * Threads doing everything at random, on blocks of their own and on blocks that they exchange, every block's contents
 * verified whenever it is touched. At the end the register shows nothing of theirs.
 */
#include "api/heapmap.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>

enum { THREADS = 20, OWN = 300, SHARED = 512, STEPS = 60000 };

/* A block and what it must hold; size and tag travel with it. */
struct held {
    unsigned char *block;
    size_t size;
    uint64_t tag;
};

/* Slots through which threads exchange blocks, each under its lock. */
static struct {
    pthread_mutex_t lock;
    struct held held; /* under lock */
} shared[SHARED];

static uint64_t seed;
static atomic_size_t wrong;

static void verify(const struct held *held) {
    if (held->block &&
        (!pattern_holds(held->block, held->size, held->tag) || malloc_usable_size(held->block) < held->size))
        atomic_fetch_add(&wrong, 1);
}

static struct held make(struct rng *rng) {
    size_t size = rng_size(rng);
    struct held held = {.size = size, .tag = rng_next(rng)};
    switch (rng_between(rng, 0, 9)) {
    case 0:
        held.block = calloc(1, size);
        for (size_t i = 0; held.block && i < size; i = pattern_next(i, size))
            if (held.block[i])
                atomic_fetch_add(&wrong, 1);
        break;
    case 1:
        held.block = aligned_alloc((size_t)16 << rng_between(rng, 0, 8), size);
        break;
    default:
        held.block = malloc(size);
    }
    if (!held.block) {
        atomic_fetch_add(&wrong, 1);
        return (struct held){.block = NULL};
    }
    pattern_write(held.block, size, held.tag);
    return held;
}

static void resize(struct rng *rng, struct held *held) {
    size_t size = rng_size(rng) + 1, common = size < held->size ? size : held->size;
    unsigned char *block = realloc(held->block, size);
    for (size_t i = 0; block && i < common && i < 256; i++)
        if (block[i] != pattern_at(held->tag, i)) {
            atomic_fetch_add(&wrong, 1);
            break;
        }
    *held = (struct held){block, block ? size : 0, held->tag};
    pattern_write(held->block, held->size, held->tag);
}

static void *work(void *number) {
    static _Thread_local struct held own[OWN];
    struct rng rng = rng_stream(seed, (uintptr_t)number);
    for (size_t step = 0; step < STEPS; step++) {
        struct held *mine = &own[rng_between(&rng, 0, OWN - 1)];
        verify(mine);
        size_t action = rng_between(&rng, 0, 99);
        if (action < 40) {
            size_t i = rng_between(&rng, 0, SHARED - 1);
            pthread_mutex_lock(&shared[i].lock);
            struct held other = shared[i].held;
            shared[i].held = *mine;
            pthread_mutex_unlock(&shared[i].lock);
            *mine = other;
            verify(mine);
        }
        if (action < 70) {
            free(mine->block);
            *mine = make(&rng);
        } else if (action < 85 && mine->block) {
            resize(&rng, mine);
        }
    }
    for (size_t i = 0; i < OWN; i++) {
        verify(&own[i]);
        free(own[i].block);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    seed = random_seed();
    for (size_t i = 0; i < SHARED; i++)
        pthread_mutex_init(&shared[i].lock, NULL);
    for (size_t t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, work, (void *)(t + 1));
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    size_t unlisted = 0;
    struct heapmap map = heapmap_read();
    for (size_t i = 0; i < SHARED; i++) {
        verify(&shared[i].held);
        if (shared[i].held.block && !heapmap_shows(&map, shared[i].held.block, shared[i].held.size))
            unlisted++;
        free(shared[i].held.block);
    }
    diag("resident at the end: %zu MiB", resident() / MIB);
    ok(atomic_load(&wrong) == 0, "%d threads, %d operations each: contents hold", THREADS, STEPS);
    ok(!map.error[0] && unlisted == 0, "the register shows what is left, each with its size %s", map.error);
    /* What the C library keeps for threads that it may start again is small; none of the test's blocks is left. */
    map = heapmap_read();
    ok(map.count <= 2 * THREADS, "nothing of theirs is left: %zu blocks live", map.count);
    return tap_done();
}
