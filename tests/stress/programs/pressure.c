/*
 * Memory runs out for all threads at once, again and again: the process may have little more than when it started, and
 * whoever gets none gives up some of its own. Not with sanitizers, which want addresses themselves at any time.
 */
#include "stress.h"

#include "limits/memory.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

enum { OWN = 300 };

static atomic_uint begun;
static atomic_ulong refusals;

static void limit_addresses(size_t bytes) {
    struct rlimit limit;
    must(getrlimit(RLIMIT_AS, &limit) == 0, "no limit is told: %s", strerror(errno));
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    must(setrlimit(RLIMIT_AS, &limit) == 0, "the limit is not taken: %s", strerror(errno));
}

static size_t any_size(struct rng *rng) {
    return rng_between(rng, 0, 3) != 0 ? rng_size(rng) : rng_between(rng, 1, PACKED_SIZE_MAX);
}

static void give_up(struct rng *rng, struct held *own) {
    atomic_fetch_add_explicit(&refusals, 1, memory_order_relaxed);
    for (size_t i = rng_between(rng, 0, 3); i < OWN; i += 4) {
        block_release(rng, own[i]);
        own[i].block = NULL;
    }
}

static void work(struct worker *worker) {
    struct rng *rng = &worker->rng;
    struct held own[OWN] = {{NULL, 0}};
    atomic_fetch_add(&begun, 1);
    for (; goes_on(); worker->operations++) {
        struct held *mine = &own[rng_between(rng, 0, OWN - 1)];
        size_t size = any_size(rng);
        bool refused;
        if (mine->block != NULL && rng_between(rng, 0, 2) == 0) {
            *mine = block_resize(rng, *mine, size);
            refused = mine->size != size;
        } else {
            block_release(rng, *mine);
            *mine = block_make(rng, size);
            refused = mine->block == NULL;
        }
        if (refused)
            give_up(rng, own);
    }
    for (size_t i = 0; i < OWN; i++)
        block_release(rng, own[i]);
}

static void limit(struct worker *worker) {
    const struct timespec rest = {.tv_nsec = 20000000};
    while (atomic_load(&begun) < stress.threads)
        sched_yield();
    size_t used = proc_bytes("/proc/self/status", "VmSize:");
    while (goes_on()) {
        /* What they want is stress.bytes at the least; the limit falls below what they have, too. */
        size_t more = rng_between(&worker->rng, 16 * MIB, stress.bytes / 2);
        limit_addresses(used + more);
        nanosleep(&rest, NULL);
        heap_must_be_valid();
    }
    limit_addresses(SIZE_MAX);
}

void run_pressure(void) {
    stress.refuses = true;
    run_threads(work, limit);
    stress.refuses = false;
    must(refusals > 0, "memory never ran out");
    say("pressure: %lu times there was no memory", refusals);
}
