/*
 * Two threads free the same blocks at the same time. One of two frees is reported at once if it sees that the other
 * came first; else when the second of them goes back to its arena, which finds the block there. If nothing is taken
 * meanwhile, the heap is as it was: no block is handed out twice.
 */
#include "cadastre.h"
#include "misuse/guard.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>

enum { BLOCKS = 2000, ROUNDS = 20, FEW = 30, RUNS = 1000 };

static void *blocks[BLOCKS];
static atomic_size_t arrivals;

/* Both threads wait for each other before each block. */
static void *free_blocks(void *count) {
    for (size_t i = 0; i < (uintptr_t)count; i++) {
        atomic_fetch_add(&arrivals, 1);
        for (size_t spins = 1; atomic_load(&arrivals) < 2 * (i + 1); spins++)
            if (spins % 1000 == 0)
                sched_yield();
        free(opaque(blocks[i]));
    }
    return NULL;
}

static void free_at_once(size_t size, size_t count) {
    pthread_t threads[2];
    for (size_t i = 0; i < count; i++)
        blocks[i] = malloc(size);
    atomic_store(&arrivals, 0);
    for (size_t t = 0; t < 2; t++)
        check(pthread_create(&threads[t], NULL, free_blocks, (void *)count) == 0, "no thread");
    for (size_t t = 0; t < 2; t++)
        pthread_join(threads[t], NULL);
    malloc_trim(0); /* all that the two had cached goes back */
}

/* How many frees were reported so far, as the last line that counts them says, and how many lines were of those that
 * were found in the arena. */
static size_t reported, found_late;

static void read_reports(void) {
    const char *line;
    while ((line = next_error())) {
        check(matches(line, "cadastre: free(0x@): double free*: block of class # bytes, arena #*") ||
                  matches(line, "cadastre: free(0x@): not a block: inside a zone, arena #, *"), /* its slab went back */
              "%s", line);
        found_late += strstr(line, "by two threads at once") != NULL;
        const char *count = strrchr(line, '(');
        reported = count[1] == '0' ? reported + 1 : strtoul(count + 1, NULL, 10);
    }
}

/* A line may stand for several that were found together. */
static void heap_stays_whole(size_t size) {
    guard_set();
    for (size_t round = 0; round < ROUNDS; round++) {
        free_at_once(size, BLOCKS);
        read_reports();
    }
    diag("of %d frees too many, %zu or some more were reported", BLOCKS * ROUNDS, reported);
    check(reported >= BLOCKS * ROUNDS * 9 / 10, "that is not nearly all");
    guard_live();
    guard_check();
}

static void tiny(void) {
    heap_stays_whole(42);
}

static void small(void) {
    heap_stays_whole(2000);
}

/* So few that each has a line. */
static void few(void) {
    free_at_once(42, FEW);
    read_reports();
    _exit(found_late > 0 ? 0 : 1);
}

static const struct test_case cases[] = {{"TINY blocks", tiny}, {"SMALL blocks", small}, {"few blocks", few}};

int main(int argc, char **argv) {
    static const char *const arenas[][2] = {{"CADASTRE_ARENAS=1"}, {NULL}};
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t a = 0; a < COUNT(arenas); a++)
        for (size_t i = 0; i < 2; i++)
            ok_case(cases[i].name, arenas[a], NULL);
    /* On one processor threads do nothing at the same time. */
    cpu_set_t processors;
    int late = sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) < 2, run = 0;
    while (!late && run++ < RUNS)
        late = run_case(cases[2].name, NULL, NULL)->status == 0;
    /* Nor do they on a busy machine; tests/unit/arena.c gives the arena a block twice. */
    ok(late || run > RUNS, "what is found in the arena only is reported, too (%d runs)%s", run,
       late ? "" : " # SKIP they never met so");
    return tap_done();
}
