/*
 * Blocks whose thread has ended are as good as any: they keep their contents, may be resized and freed by others, at
 * once or by several, and their memory serves new threads.
 */
#include "api/heapmap.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>

enum { OWNERS = 8, FREERS = 4, BLOCKS = 1500, ROUNDS = 60 };

static struct {
    unsigned char *block;
    size_t size;
} table[OWNERS][BLOCKS];

static uint64_t seed, current_round;
static atomic_size_t wrong;

static void *own_and_die(void *number) {
    size_t t = (size_t)(uintptr_t)number;
    struct rng rng = rng_stream(seed + current_round, t);
    for (size_t i = 0; i < BLOCKS; i++) {
        table[t][i].size = i % 100 ? rng_between(&rng, 0, 2000) : rng_size(&rng);
        table[t][i].block = malloc(table[t][i].size);
        pattern_write(table[t][i].block, table[t][i].size, t * BLOCKS + i);
    }
    return NULL;
}

static void take_over(size_t t, size_t i) {
    if (!pattern_holds(table[t][i].block, table[t][i].size, t * BLOCKS + i))
        atomic_fetch_add(&wrong, 1);
    if (i % 7 == 0 && table[t][i].size > 1) {
        unsigned char first = table[t][i].block[0];
        table[t][i].block = realloc(table[t][i].block, table[t][i].size * 2);
        if (!table[t][i].block || table[t][i].block[0] != first)
            atomic_fetch_add(&wrong, 1);
    }
    free(table[t][i].block);
}

/* Every freer takes a part of every owner's blocks. */
static void *free_a_part(void *number) {
    for (size_t t = 0; t < OWNERS; t++)
        for (size_t i = (size_t)(uintptr_t)number; i < BLOCKS; i += FREERS)
            take_over(t, i);
    return NULL;
}

static void start_and_join(void *(*run)(void *), size_t count) {
    pthread_t threads[OWNERS];
    for (size_t t = 0; t < count; t++)
        pthread_create(&threads[t], NULL, run, (void *)t);
    for (size_t t = 0; t < count; t++)
        pthread_join(threads[t], NULL);
}

int main(void) {
    size_t early = 0;
    int registered = 1;
    seed = random_seed();
    for (current_round = 0; current_round < ROUNDS; current_round++) {
        start_and_join(own_and_die, OWNERS);
        if (current_round % 20 == 0) {
            struct heapmap map = heapmap_read();
            registered &= !map.error[0];
            for (size_t t = 0; t < OWNERS; t++)
                for (size_t i = 0; i < BLOCKS; i++)
                    registered &= heapmap_shows(&map, table[t][i].block, table[t][i].size);
        }
        if (current_round % 2)
            start_and_join(free_a_part, FREERS);
        else
            for (size_t part = 0; part < FREERS; part++)
                free_a_part((void *)part);
        if (current_round == ROUNDS / 2)
            early = resident();
    }
    size_t late = resident();
    struct heapmap map = heapmap_read();
    diag("resident: %zu MiB after %d rounds, %zu MiB after %d", early / MIB, ROUNDS / 2, late / MIB, ROUNDS);
    ok(atomic_load(&wrong) == 0, "blocks of threads that have ended keep their contents, are resized and freed");
    ok(registered, "the register shows them, each with its size");
    ok(!map.error[0] && map.count <= 2 * OWNERS, "and nothing once they are freed: %zu blocks live", map.count);
    ok(late < early + 16 * MIB, "their memory serves new threads");
    return tap_done();
}
