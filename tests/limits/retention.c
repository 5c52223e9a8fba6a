/*
 * The retention contract, seen from outside: when a heap is freed, the memory goes back to the kernel but for max(8
 * MiB + min(live of LARGE, 24 MiB), live / 8), and an allowance for what the contract leaves out: thread caches, at
 * most 8 MiB for each thread, and the allocator's own metadata, at most 1/24 of the heap at its largest; and for what
 * it learns of swings, an eighth of the heap for each but the first. Each case is a process of its own.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>

#define HEAP (192 * MIB)

enum { MOST = 4 << 20, THREADS = 4 };

static void *table[MOST];

/* Fills `bytes` with blocks of low..high bytes, all written to, from table[first] on; returns the number of them. */
static size_t fill(size_t first, size_t bytes, size_t low, size_t high, uint64_t stream) {
    struct rng rng = rng_stream(11, stream);
    size_t i = first;
    for (size_t sum = 0; sum < bytes && i < MOST; i++) {
        size_t size = rng_between(&rng, low, high);
        table[i] = malloc(size);
        check(table[i], "no memory");
        memset(table[i], 1, size);
        sum += size;
    }
    return i - first;
}

static void release(size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++)
        free(table[i]);
}

/* What may stay resident above `before`, once all but `live` bytes of a heap of `heap` bytes are freed. */
static void falls_after(size_t swings, size_t before, size_t heap, size_t live, size_t threads) {
    size_t retained = live / 8 > 8 * MIB ? live / 8 : 8 * MIB;
    size_t allowance = threads * 8 * MIB + heap / 24 + swings * heap / 8, after = resident();
    size_t may_stay = before + retained + allowance;
    diag("%zu MiB freed of %zu: resident %zu MiB; at most %zu may be (%zu before, %zu retained, %zu allowance)",
         (heap - live) / MIB, heap / MIB, after / MIB, may_stay / MIB, before / MIB, retained / MIB, allowance / MIB);
    check(after <= may_stay, "%zu MiB more than that", (after - may_stay) / MIB);
}

static void falls(size_t before, size_t heap, size_t live, size_t threads) {
    falls_after(0, before, heap, live, threads);
}

/* table's pages are the test's own: they count before and after alike. */
static void touch_table(void) {
    memset(table, 0, sizeof table);
}

static void one_thread(size_t low, size_t high) {
    size_t heap = mem_bound(HEAP);
    touch_table();
    size_t before = resident();
    for (uint64_t round = 0; round < 2; round++) {
        size_t count = fill(0, heap, low, high, round);
        check(resident() > before + heap / 2, "the heap was not resident");
        release(0, count);
        falls_after(round, before, heap, 0, 1);
    }
}

/* A bound that was asked for holds however often. */
static void six_times(void) {
    size_t heap = mem_bound(HEAP);
    mallopt(M_TRIM_THRESHOLD, 8 * MIB);
    touch_table();
    size_t before = resident();
    for (uint64_t round = 0; round < 6; round++) {
        release(0, fill(0, heap, 64, 150000, round));
        falls(before, heap, 0, 1);
    }
}

static void tiny(void) {
    one_thread(64, 1024);
}

static void tiniest(void) {
    one_thread(60, 64);
}

static void small(void) {
    one_thread(1025, 65536);
}

static void large(void) {
    one_thread(65537, 300000);
}

static void huge(void) {
    one_thread(10 << 20, 30 << 20);
}

static void all_sizes(void) {
    one_thread(64, 150000);
}

/* Half of the heap stays live, in slabs of its own: live / 8 may be retained. */
static void half_stays(void) {
    size_t heap = mem_bound(2 * HEAP);
    touch_table();
    size_t kept = fill(0, heap / 2, 100, 3000, 1), before = resident();
    size_t count = fill(kept, heap / 2, 100, 3000, 2);
    release(kept, count);
    falls(before, heap, heap / 2, 1);
    release(0, kept);
}

static uint64_t kept_by_threads(void) {
    struct cadastre_stats stats;
    cadastre_stats(&stats, sizeof stats);
    return stats.mapped.retired;
}

/* A thread's LARGE spans are of no use to its small blocks: when these need more memory than ever, the spans go. */
static void small_after_large(void) {
    void *block = malloc(6 * MIB);
    check(block, "no memory");
    free(block);
    check(kept_by_threads() >= 6 * MIB, "the thread does not keep the span");
    release(0, fill(0, mem_bound(32 * MIB), 64, 1024, 1));
    diag("%zu KiB of spans are kept", (size_t)kept_by_threads() / KIB);
    check(kept_by_threads() == 0, "the thread still keeps it");
}

/* ------------------------------------------------------------------------------------------- on threads */
static size_t share;
static size_t counts[THREADS];
static pthread_barrier_t all;

static void *fill_share(void *number) {
    size_t t = (size_t)(uintptr_t)number;
    counts[t] = fill(t * (MOST / THREADS), share, 100, 20000, t);
    return NULL;
}

static void *release_share(void *number) {
    size_t t = (size_t)(uintptr_t)number;
    release(t * (MOST / THREADS), counts[t]);
    return NULL;
}

static void *fill_and_release_neighbours(void *number) {
    size_t t = (size_t)(uintptr_t)number;
    fill_share(number);
    pthread_barrier_wait(&all);
    release_share((void *)((t + 1) % THREADS));
    pthread_barrier_wait(&all); /* all caches are there when the main thread looks */
    pthread_barrier_wait(&all);
    return NULL;
}

static void *fill_release_and_idle(void *number) {
    size_t t = (size_t)(uintptr_t)number, first = t * (MOST / 64), count = fill(first, share, 16, 100000, t);
    pthread_barrier_wait(&all); /* the peak */
    pthread_barrier_wait(&all);
    release(first, count);
    pthread_barrier_wait(&all); /* idle from here on */
    pthread_barrier_wait(&all);
    return NULL;
}

static void on_threads(void *(*run)(void *)) {
    pthread_t threads[THREADS];
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, run, (void *)t) == 0, "no thread");
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
}

static void by_another_thread(void) {
    size_t heap = mem_bound(HEAP);
    share = heap / THREADS;
    touch_table();
    size_t before = resident();
    on_threads(fill_share);
    for (size_t t = 0; t < THREADS; t++)
        release_share((void *)t);
    falls(before, heap, 0, THREADS + 1);
}

static void by_new_threads(void) {
    size_t heap = mem_bound(HEAP);
    share = heap / THREADS;
    touch_table();
    size_t before = resident();
    on_threads(fill_share);
    on_threads(release_share);
    falls(before, heap, 0, 2 * THREADS + 1);
}

static void by_each_other(void) {
    size_t heap = mem_bound(HEAP);
    pthread_t threads[THREADS];
    share = heap / THREADS;
    touch_table();
    pthread_barrier_init(&all, NULL, THREADS + 1);
    size_t before = resident();
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, fill_and_release_neighbours, (void *)t) == 0, "no thread");
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    falls(before, heap, 0, THREADS + 1);
    pthread_barrier_wait(&all);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
}

/* Many threads keep 64 MiB in their caches, all together, or one block of each class, which sum up to 0.8 MiB. */
static void by_idle_threads(void) {
    enum { IDLE = 64 };
    size_t heap = mem_bound(2 * HEAP), may_stay;
    pthread_t threads[IDLE];
    share = heap / IDLE;
    touch_table();
    pthread_barrier_init(&all, NULL, IDLE + 1);
    size_t before = resident();
    for (size_t t = 0; t < IDLE; t++)
        check(pthread_create(&threads[t], NULL, fill_release_and_idle, (void *)t) == 0, "no thread");
    pthread_barrier_wait(&all);
    check(resident() > before + heap / 2, "the heap was not resident");
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    may_stay = before + 8 * MIB + 64 * MIB + IDLE * 820 * KIB + heap / 24;
    diag("%d idle threads, %zu MiB freed: resident %zu MiB; at most %zu may be (%zu before)", IDLE, heap / MIB,
         resident() / MIB, may_stay / MIB, before / MIB);
    check(resident() <= may_stay, "%zu MiB more than that", (resident() - may_stay) / MIB);
    pthread_barrier_wait(&all);
    for (size_t t = 0; t < IDLE; t++)
        pthread_join(threads[t], NULL);
}

static const struct test_case cases[] = {
    {"a heap of TINY blocks", tiny},
    {"a heap of 64-byte blocks", tiniest},
    {"a heap of SMALL blocks", small},
    {"a heap of LARGE blocks", large},
    {"a heap of blocks of 10 to 30 MiB", huge},
    {"a heap of all sizes", all_sizes},
    {"a heap of all sizes, six times, with a bound of its own", six_times},
    {"half of a heap", half_stays},
    {"small blocks after a LARGE one", small_after_large},
    {"threads' heaps, freed by the main thread", by_another_thread},
    {"threads' heaps, freed by other threads when theirs have ended", by_new_threads},
    {"threads' heaps, freed by each other", by_each_other},
    {"64 threads' heaps, freed by themselves, who then idle", by_idle_threads},
};

MAIN_OF_CASES(cases)
