/*
 * Threads are spread over arenas, and threads of different arenas get their blocks from different zones. Which arena a
 * block belongs to is learnt from the report of a misuse: malloc_usable_size of an address inside it, which changes
 * nothing. Each case is a process of its own, with its number of arenas.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <malloc.h>
#include <pthread.h>

enum { THREADS = 16, ZONE_BITS = 23 };

static void *tiny[THREADS], *small[THREADS];
static pthread_barrier_t allocated, seen;

static void *allocate(void *number) {
    size_t t = (size_t)(uintptr_t)number;
    tiny[t] = malloc(100);
    small[t] = malloc(5000);
    pthread_barrier_wait(&allocated);
    pthread_barrier_wait(&seen);
    free(tiny[t]);
    free(small[t]);
    return NULL;
}

static unsigned arena_of(void *block) {
    check(malloc_usable_size(opaque((char *)block + 16)) == 0, "the inside of a block has a size");
    const char *line = next_error(), *arena = line ? strstr(line, ", arena ") : NULL;
    check(arena, "no arena in the report: %s", line ? line : "none");
    return (unsigned)strtoul(arena + 8, NULL, 10);
}

/* The zone that holds a block, by its address. */
static uintptr_t zone_of(void *block) {
    return (uintptr_t)block >> ZONE_BITS;
}

/* Starts the threads, looks at their blocks, and returns the number of arenas that they are spread over. */
static size_t spread(size_t arenas) {
    pthread_t threads[THREADS];
    unsigned arena[2 * THREADS];
    void *block[2 * THREADS];
    size_t distinct = 0;
    pthread_barrier_init(&allocated, NULL, THREADS + 1);
    pthread_barrier_init(&seen, NULL, THREADS + 1);
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, allocate, (void *)t) == 0, "thread %zu does not start", t);
    pthread_barrier_wait(&allocated);
    for (size_t t = 0; t < THREADS; t++) {
        block[2 * t] = tiny[t];
        block[2 * t + 1] = small[t];
        arena[2 * t] = arena_of(tiny[t]);
        arena[2 * t + 1] = arena_of(small[t]);
        check(arena[2 * t] == arena[2 * t + 1], "one thread's blocks are of arenas %u and %u", arena[2 * t],
              arena[2 * t + 1]);
        check(arena[2 * t] < arenas, "arena %u of %zu", arena[2 * t], arenas);
    }
    for (size_t i = 0; i < COUNT(block); i++) {
        int known = 0;
        for (size_t j = 0; j < i; j++) {
            check(arena[i] == arena[j] || zone_of(block[i]) != zone_of(block[j]),
                  "arenas %u and %u share a zone: %p, %p", arena[i], arena[j], block[i], block[j]);
            known |= arena[i] == arena[j];
        }
        distinct += !known;
    }
    for (size_t t = 0; t < THREADS; t++)
        check(zone_of(tiny[t]) != zone_of(small[t]), "TINY and SMALL share a zone");
    pthread_barrier_wait(&seen);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    diag("%d threads: %zu arenas", THREADS, distinct);
    return distinct;
}

static void one_arena(void) {
    check(spread(1) == 1, "more than one arena");
}

static void eight_arenas(void) {
    check(spread(8) == 8, "some of 8 arenas are unused by 16 threads");
}

static void sixty_four_arenas(void) {
    check(spread(64) == THREADS, "threads share an arena although others are free");
}

static void as_many_as_it_chooses(void) {
    check(spread(64) > 1, "all threads share one arena");
}

static const struct set_case cases[] = {
    {{"CADASTRE_ARENAS=1: all threads share one arena", one_arena}, NULL, "CADASTRE_ARENAS=1"},
    {{"CADASTRE_ARENAS=8: 16 threads use all 8, each with zones of its own", eight_arenas}, NULL, "CADASTRE_ARENAS=8"},
    {{"CADASTRE_ARENAS=64: each of 16 threads has its own", sixty_four_arenas}, NULL, "CADASTRE_ARENAS=64"},
    {{"no option: 16 threads are spread over arenas", as_many_as_it_chooses}, NULL, NULL},
};

MAIN_OF_SET_CASES(cases)
