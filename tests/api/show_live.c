/*
 * show_alloc_mem while other threads allocate: a block that is live during the whole call is listed once with its
 * exact size, one that is free during the whole call is not, and the output is well-formed throughout.
 */
#include "api/heapmap.h"
#include "threads/random.h"

#include <pthread.h>

enum { THREADS = 6, SLOTS = 400, CALLS = 60 };

/*
 * A slot is written by its thread alone. `turn` is even while the block is as `block` and `size` say, odd while it is
 * being replaced; a slot whose turn is the same even number before and after a call was live during all of it.
 */
struct slot {
    atomic_size_t turn;
    _Atomic(uintptr_t) block;
    atomic_size_t size;
};

static struct slot slots[THREADS][SLOTS];
static atomic_int stop;
static uint64_t seed;

static void *replace_at_random(void *argument) {
    size_t thread = (size_t)(uintptr_t)argument;
    struct rng rng = rng_stream(seed, thread);
    while (!atomic_load(&stop)) {
        /* Half of the slots change rarely, so that many blocks live through a call. */
        size_t i = rng_between(&rng, 0, rng_between(&rng, 0, 63) ? SLOTS / 2 - 1 : SLOTS - 1);
        struct slot *slot = &slots[thread][i];
        size_t size = rng_size(&rng);
        void *old = (void *)atomic_load(&slot->block);
        atomic_fetch_add(&slot->turn, 1);
        if (i % 3 == 0) {
            old = realloc(old, size + 1);
            atomic_store(&slot->size, size + 1);
        } else {
            free(old);
            old = malloc(size);
            atomic_store(&slot->size, size);
        }
        atomic_store(&slot->block, (uintptr_t)old);
        atomic_fetch_add(&slot->turn, 1);
    }
    return NULL;
}

enum { FIXED = 2000 };

static void *fixed[FIXED];

static void exact_while_threads_allocate(void) {
    static size_t turns[THREADS][SLOTS], sizes[THREADS][SLOTS];
    static uintptr_t blocks[THREADS][SLOTS];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < FIXED; i++)
        fixed[i] = malloc(i % 2 ? 700 : 1000);
    for (size_t t = 0; t < THREADS; t++)
        for (size_t i = 0; i < SLOTS; i++) {
            atomic_store(&slots[t][i].size, i);
            atomic_store(&slots[t][i].block, (uintptr_t)malloc(i));
        }
    for (size_t t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, replace_at_random, (void *)t);

    int formed = 1, listed = 1, fixed_listed = 1;
    size_t lived = 0, replaced = 0;
    for (int call = 0; call < CALLS; call++) {
        for (size_t t = 0; t < THREADS; t++)
            for (size_t i = 0; i < SLOTS; i++) {
                turns[t][i] = atomic_load(&slots[t][i].turn);
                blocks[t][i] = atomic_load(&slots[t][i].block);
                sizes[t][i] = atomic_load(&slots[t][i].size);
            }
        struct heapmap map = heapmap_read();
        if (map.error[0] && formed) {
            diag("call %d: %s", call, map.error);
            formed = 0;
        }
        for (size_t t = 0; t < THREADS; t++)
            for (size_t i = 0; i < SLOTS; i++) {
                if (turns[t][i] % 2 || atomic_load(&slots[t][i].turn) != turns[t][i]) {
                    replaced++;
                    continue;
                }
                lived++;
                if (!heapmap_shows(&map, (void *)blocks[t][i], sizes[t][i])) {
                    const struct shown *entry = heapmap_find(&map, blocks[t][i]);
                    if (listed)
                        diag("call %d: a live block of %zu bytes is shown with %zu", call, sizes[t][i],
                             entry ? entry->size : 0);
                    listed = 0;
                }
            }
        for (size_t i = 0; i < FIXED; i++)
            fixed_listed &= heapmap_shows(&map, fixed[i], i % 2 ? 700 : 1000);
    }
    atomic_store(&stop, 1);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    diag("%d calls: %zu blocks lived through one, %zu were replaced meanwhile", CALLS, lived, replaced);
    ok(formed, "well-formed in every call");
    ok(fixed_listed, "blocks that stay are listed in every call");
    ok(listed, "a block live during the whole call is listed with its size");
    ok(lived > 0 && replaced > 0, "both kinds were there to be seen");
    for (size_t t = 0; t < THREADS; t++)
        for (size_t i = 0; i < SLOTS; i++)
            free((void *)atomic_load(&slots[t][i].block));
    for (size_t i = 0; i < FIXED; i++)
        free(fixed[i]);
}

/* ------------------------------------------------------------------- free during the whole call: not listed */
static void *churn_one_size(void *argument) {
    struct rng rng = rng_stream(seed, 50 + (uintptr_t)argument);
    void *held[200] = {NULL};
    while (!atomic_load(&stop)) {
        size_t i = rng_between(&rng, 0, 199);
        free(held[i]);
        held[i] = malloc(rng_between(&rng, 1, 500));
    }
    for (size_t i = 0; i < 200; i++)
        free(held[i]);
    return NULL;
}

static void freed_blocks_are_not_listed(void) {
    pthread_t threads[THREADS];
    /* Nobody below asks for this class, and every other block keeps its slab: the freed ones stay free. */
    for (size_t i = 0; i < FIXED; i++)
        fixed[i] = malloc(900);
    for (size_t i = 1; i < FIXED; i += 2)
        free(fixed[i]);
    atomic_store(&stop, 0);
    for (size_t t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, churn_one_size, (void *)t);
    int right = 1;
    for (int call = 0; call < CALLS; call++) {
        struct heapmap map = heapmap_read();
        right &= map.error[0] == '\0';
        for (size_t i = 0; i < FIXED; i++)
            right &= i % 2 ? !heapmap_find(&map, (uintptr_t)fixed[i]) : heapmap_shows(&map, fixed[i], 900);
    }
    atomic_store(&stop, 1);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    ok(right, "a block free during the whole call is not listed, its live neighbours are");
    for (size_t i = 0; i < FIXED; i += 2)
        free(fixed[i]);
}

int main(void) {
    seed = random_seed();
    alarm(60);
    exact_while_threads_allocate();
    freed_blocks_are_not_listed();
    return tap_done();
}
