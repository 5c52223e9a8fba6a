/*
 * Fragmentation in 4 GiB of address space stays far below vm.max_map_count (65530 by default): under 5,000 mappings.
 * Blocks are not written to, so that the run takes address space and little memory.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>

enum { MAPPINGS = 5000, SLOTS = 200000 };

#define SPACE (4 * GIB)

static void *blocks[SLOTS];
static size_t sizes[SLOTS];
static size_t used; /* slots in use from the front, freed ones (NULL) among them */
static size_t most; /* mappings seen at once */

static void look(const char *when) {
    size_t now = mappings();
    diag("%s: %zu mappings, %zu MiB resident", when, now, resident() / MIB);
    most = now > most ? now : most;
}

static void *request(struct rng *rng, size_t low, size_t high, size_t *size) {
    *size = rng_between(rng, low, high);
    return malloc(*size);
}

/* Fills 4 GiB with blocks of low..high bytes. */
static int fill(struct rng *rng, size_t low, size_t high) {
    size_t bytes = 0;
    for (used = 0; used < SLOTS && bytes < SPACE; used++) {
        blocks[used] = request(rng, low, high, &sizes[used]);
        if (!blocks[used]) {
            diag("refused after %zu MiB", bytes / MIB);
            return 0;
        }
        bytes += sizes[used];
    }
    return 1;
}

static void empty(void) {
    for (size_t i = 0; i < used; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void fragment(const char *name, struct rng *rng, size_t low, size_t high) {
    most = 0;
    int had = fill(rng, low, high);
    diag("%s: %zu blocks of %zu..%zu bytes", name, used, low, high);
    look("filled");
    for (size_t i = 0; i < used; i += 2) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    look("every other one freed");
    for (size_t i = 0; i < used; i += 2)
        had &= (blocks[i] = request(rng, low, high, &sizes[i])) != NULL;
    look("holes filled with other sizes");
    for (size_t i = 0; i < used; i++) {
        if (rng_between(rng, 0, 2)) {
            free(blocks[i]);
            blocks[i] = NULL;
        }
    }
    look("two of three freed at random");
    for (size_t i = 0; i < used; i++)
        if (!blocks[i])
            had &= (blocks[i] = request(rng, low, high, &sizes[i])) != NULL;
    look("filled again");
    empty();
    look("all freed");
    ok(had, "%s: nothing is refused", name);
    ok(most < MAPPINGS, "%s: at most %zu mappings at once, under %d", name, most, MAPPINGS);
}

/* A LARGE block that shrinks gives its tail back; so many of them must not leave as many holes. */
static void shrink_all(struct rng *rng) {
    most = 0;
    int had = fill(rng, 200 << 10, 300 << 10);
    look("filled with 200..300 KiB");
    for (size_t i = 0; i < used; i++)
        had &= (blocks[i] = realloc(blocks[i], sizes[i] / 3)) != NULL;
    look("each shrunk to a third");
    for (size_t i = 0; i < used; i += 2)
        had &= (blocks[i] = realloc(blocks[i], sizes[i])) != NULL;
    look("every other one grown back");
    empty();
    ok(had, "shrinking: nothing is refused");
    ok(most < MAPPINGS, "shrinking: at most %zu mappings at once, under %d", most, MAPPINGS);
}

static void align_all(struct rng *rng) {
    most = 0;
    int had = 1;
    for (used = 0; used < 3000; used++)
        had &= (blocks[used] = memalign(MIB, rng_between(rng, 100 << 10, 900 << 10))) != NULL;
    look("3000 blocks at multiples of 1 MiB");
    for (size_t i = 0; i < used; i += 2) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    look("every other one freed");
    empty();
    ok(had, "aligned: nothing is refused");
    ok(most < MAPPINGS, "aligned: at most %zu mappings at once, under %d", most, MAPPINGS);
}

/* A LARGE block that grows may move, and leaves a hole where it was, so that what is freed has ever fewer neighbours to
 * join. Whatever its length, that must find its level, in mappings and in addresses. */
static void grow_all(struct rng *rng) {
    enum { AT_ONCE = 16, GROWN = 15000, SPACE_MIB = 400 };
    struct cadastre_stats stats;
    int had = 1;
    for (used = 0; used < AT_ONCE; used++)
        blocks[used] = NULL;
    for (size_t i = 0; i < GROWN; i++) {
        size_t size = rng_between(rng, 70 << 10, 1100 << 10), slot = rng_between(rng, 0, AT_ONCE - 1);
        char *block = malloc(size / 2);
        for (size_t at = 0; at < size / 2; at += 4096)
            block[at] = 1;
        block = realloc(block, size);
        had &= block != NULL;
        free(blocks[slot]);
        blocks[slot] = block;
    }
    cadastre_stats(&stats, sizeof stats);
    most = 0;
    look("15000 blocks grown, 16 of them live");
    ok(had, "growing: nothing is refused");
    ok(most < MAPPINGS / 2, "growing: %zu mappings, under %d", most, MAPPINGS / 2);
    ok(stats.mapped.total < SPACE_MIB * MIB, "growing: %zu MiB of addresses, under %d", stats.mapped.total / MIB,
       SPACE_MIB);
    empty();
}

static void *pass(void *argument) {
    return argument;
}

/* Small blocks of large alignments do not take a mapping each, whatever becomes of those around them; what is resident
 * is a page for each that is written; and when all are freed, so are the addresses between them. */
static void align_small(size_t alignment, size_t count, int write) {
    enum { MORE = 100, ADDRESSES_MIB = 400, RESIDENT_MIB = 16 };
    struct cadastre_stats stats;
    pthread_t thread;
    malloc_trim(0);
    size_t before = mappings(), page = (size_t)sysconf(_SC_PAGESIZE), of_tables = count * 200;
    size_t resident_before = resident();
    int had = 1, right = 1;
    most = 0;
    for (used = 0; used < count; used++) {
        unsigned char *block = blocks[used] = aligned_alloc(alignment, 64);
        had &= block != NULL && (uintptr_t)block % alignment == 0 && malloc_usable_size(block) >= 64;
        for (size_t i = 0; had && write && i < 64; i++)
            block[i] = (unsigned char)(used + i);
    }
    look("blocks of 64 bytes, aligned");
    int is_lean = resident() < resident_before + count * (size_t)write * page + of_tables + RESIDENT_MIB * MIB;
    had &= pthread_create(&thread, NULL, pass, NULL) == 0 && pthread_join(thread, NULL) == 0;
    malloc_trim(0);
    look("trimmed");
    for (size_t i = 0; i < used; i += 7) {
        free(blocks[i]);
        blocks[i] = aligned_alloc(alignment, 64);
        had &= blocks[i] != NULL && (uintptr_t)blocks[i] % alignment == 0;
    }
    look("every seventh freed and taken again");
    for (size_t i = 0; write && i < used; i++)
        for (size_t at = 0; i % 7 != 0 && at < 64; at++)
            right &= ((unsigned char *)blocks[i])[at] == (unsigned char)(i + at);
    ok(had && right, "%zu of 64 bytes at %zu KiB are had, and keep their contents", count, alignment / KIB);
    ok(is_lean, "%zu of 64 bytes at %zu KiB: a page each is resident", count, alignment / KIB);
    /* A zone of 64 KiB blocks is two mappings: the blocks and its guard. */
    size_t bound = before + MORE + (alignment <= 64 * KIB ? count / 50 : 0);
    ok(most <= bound, "%zu of 64 bytes at %zu KiB: %zu mappings, at most %zu", count, alignment / KIB, most, bound);
    most = 0;
    empty();
    look("all freed");
    cadastre_stats(&stats, sizeof stats);
    /* The nodes stay, in chunks of our own memory, which may be a mapping each. */
    ok(most <= before + MORE + count / 400 && stats.mapped.total < ADDRESSES_MIB * MIB && stats.mapped.other == 0,
       "all freed: %zu mappings, %zu MiB of addresses", most, (size_t)stats.mapped.total / MIB);
    ok(cadastre_check() == 0, "and the heap is sound");
}

/* Nor do those that move leave anything behind. */
static void align_and_move(void) {
    enum { BLOCKS = 1000, GROWN = 3, ADDRESSES_MIB = BLOCKS * (GROWN + 1) + 400 };
    struct cadastre_stats stats;
    size_t before = mappings();
    int had = 1;
    most = 0;
    for (used = 0; used < BLOCKS; used++) {
        blocks[used] = aligned_alloc(MIB, used % 2 ? 70 << 10 : 100);
        blocks[used] = realloc(blocks[used], GROWN * MIB);
        had &= blocks[used] != NULL;
    }
    look("aligned blocks that grew");
    cadastre_stats(&stats, sizeof stats);
    ok(had && most <= before + 100 && stats.mapped.total < ADDRESSES_MIB * MIB,
       "aligned, and grown: %zu mappings, %zu MiB of addresses", most, (size_t)stats.mapped.total / MIB);
    empty();
}

int main(void) {
    struct rng rng = rng_stream(random_seed(), 0);
    diag("%zu MiB of address space, not written to", SPACE / MIB);
    look("at start");
    grow_all(&rng);
    fragment("SMALL", &rng, 1025, 64 << 10);
    fragment("LARGE", &rng, 65 << 10, 300 << 10);
    fragment("both", &rng, 20 << 10, 150 << 10);
    shrink_all(&rng);
    align_all(&rng);
    align_small(2 * MIB, 10000, 1);
    align_small(64 * KIB, 70000, 0);
    align_small(256 * KIB, 70000, 0);
    align_and_move();
    return tap_done();
}
