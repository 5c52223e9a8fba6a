/*
 * 100,000 short threads, each of which allocates, frees most of it and leaves one block for others to free: resident
 * memory, mappings and the register at the end are what they were early on.
 */
#include "api/heapmap.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <pthread.h>

enum { ALL = 100000, EARLY = 10000, AT_ONCE = 10, LEFT = 1000 };

static struct {
    unsigned char *block;
    size_t size;
    uint64_t tag;
} left[LEFT]; /* slot n % LEFT is thread n's alone: it frees what thread n - LEFT, long ended, left there */

static uint64_t seed;
static atomic_size_t wrong;

static void *live_shortly(void *argument) {
    size_t number = (size_t)(uintptr_t)argument, slot = number % LEFT;
    struct rng rng = rng_stream(seed, number);
    unsigned char *blocks[20];
    if (!pattern_holds(left[slot].block, left[slot].size, left[slot].tag))
        atomic_fetch_add(&wrong, 1);
    free(left[slot].block);
    for (size_t i = 0; i < 20; i++)
        blocks[i] = malloc(rng_between(&rng, 1, i == 19 ? 5000 : 500));
    for (size_t i = 0; i < 20; i++)
        free(blocks[i]);
    if (number % 50 == 0)
        free(malloc(100000));
    left[slot].size = rng_between(&rng, 1, 1000);
    left[slot].tag = number;
    left[slot].block = malloc(left[slot].size);
    pattern_write(left[slot].block, left[slot].size, number);
    return NULL;
}

static size_t started;

static void run_until(size_t count) {
    pthread_t threads[AT_ONCE];
    while (started < count) {
        for (size_t i = 0; i < AT_ONCE; i++)
            if (pthread_create(&threads[i], NULL, live_shortly, (void *)(started + i)) != 0) {
                tap_print("Bail out! thread %zu does not start", started + i);
                _exit(2);
            }
        for (size_t i = 0; i < AT_ONCE; i++)
            pthread_join(threads[i], NULL);
        started += AT_ONCE;
    }
}

int main(void) {
    seed = random_seed();
    run_until(EARLY);
    size_t early = resident(), early_mappings = mappings(), early_live = heapmap_read().count;
    early = resident(); /* again, with the reader's own pages there */
    run_until(ALL);
    size_t late_live = heapmap_read().count, late = resident(), late_mappings = mappings();
    diag("after %d threads: %zu KiB resident, %zu mappings, %zu blocks", EARLY, early / KIB, early_mappings,
         early_live);
    diag("after %d threads: %zu KiB resident, %zu mappings, %zu blocks", ALL, late / KIB, late_mappings, late_live);
    ok(atomic_load(&wrong) == 0, "what each left was there for another to free");
    /* An arena that comes into use late makes its zones late: an allowance for a few, not for 90,000 threads. */
    ok(late < early + 4 * MIB, "resident memory is flat");
    ok(late_mappings < early_mappings + 100, "so are mappings");
    ok(late_live <= early_live + AT_ONCE, "and the register's blocks");
    return tap_done();
}
