/*
 * What blocks hold: realloc keeps contents over every transition between TINY, SMALL and LARGE, up to the whole
 * capacity; the capacity is constant and all of it is the caller's; calloc gives zeros, whatever lay there before.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <malloc.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* On both sides of every limit, and in the middle of each category. */
static const size_t sizes[] = {1,     15,    16,    17,    48,     127,    128,    129,     257,    600,
                               1023,  1024,  1025,  1500,  4095,   4096,   4097,   10000,   32768,  32769,
                               40000, 65535, 65536, 65537, 100000, 131072, 300000, 1 << 20, 5000000};

static void write_all(unsigned char *block, size_t size, uint64_t tag) {
    for (size_t i = 0; i < size; i++)
        block[i] = pattern_at(tag, i);
}

/* How many bytes from the front still hold the pattern. */
static size_t held(const unsigned char *block, size_t size, uint64_t tag) {
    size_t i = 0;
    while (i < size && block[i] == pattern_at(tag, i))
        i++;
    return i;
}

static void every_transition(void) {
    for (size_t from = 0; from < COUNT(sizes); from++) {
        int kept = 1;
        for (size_t to = 0; to < COUNT(sizes); to++) {
            /* A neighbour on either side, so that growing in place over a live block would be seen. */
            unsigned char *before = malloc(sizes[from]), *block = malloc(sizes[from]), *after = malloc(sizes[from]);
            size_t capacity = malloc_usable_size(block);
            write_all(before, sizes[from], 1);
            write_all(block, capacity, 2);
            write_all(after, sizes[from], 3);
            block = realloc(block, sizes[to]);
            size_t now = block ? malloc_usable_size(block) : 0;
            size_t common = capacity < now ? capacity : now;
            if (!block || now < sizes[to] || held(block, common, 2) != common) {
                diag("realloc from %zu to %zu bytes: %zu of %zu bytes kept", sizes[from], sizes[to],
                     block ? held(block, common, 2) : 0, common);
                kept = 0;
            }
            if (block)
                write_all(block, now, 4);
            kept &= held(before, sizes[from], 1) == sizes[from] && held(after, sizes[from], 3) == sizes[from];
            free(before), free(block), free(after);
        }
        ok(kept, "realloc from %zu bytes to each size: contents kept, neighbours unharmed", sizes[from]);
    }
}

/* One block through a random walk of sizes, its contents followed all the way. */
static void random_walk(struct rng *rng) {
    size_t size = 100, largest = mem_bound(24 * MIB);
    unsigned char *block = malloc(size);
    int kept = 1;
    pattern_write(block, size, 0);
    for (uint64_t step = 1; step <= 3000; step++) {
        size_t next = rng_size(rng) + 1;
        if (step % 50 == 0)
            next = rng_between(rng, 1, largest);
        size_t common = size < next ? size : next;
        unsigned char first = block[0], last = block[common - 1];
        kept &= pattern_holds(block, size, step - 1);
        block = step % 2 ? realloc(block, next) : reallocarray(block, 1, next);
        kept &= block[0] == first && block[common - 1] == last;
        size = next;
        pattern_write(block, size, step);
    }
    free(block);
    ok(kept, "a block resized 3000 times at random keeps its contents");
}

/* Growing step by step, as a string builder does, through all categories up to 16 MiB. */
static void steady_growth(void) {
    size_t limit = mem_bound(16 * MIB), size = 1;
    unsigned char *block = NULL;
    size_t written = 0;
    while (size < limit) {
        block = realloc(block, size);
        for (; written < size; written++)
            block[written] = pattern_at(9, written);
        size += size / 3 + 1;
    }
    ok(held(block, written, 9) == written, "a block grown in small steps to %zu bytes keeps its contents", written);
    free(block);
}

/* The capacity stays what it was while others come and go, and writing all of it harms nobody. */
static void capacity_is_the_callers(void) {
    enum { EACH = 64 };
    static unsigned char *blocks[COUNT(sizes)][EACH];
    static size_t capacities[COUNT(sizes)][EACH];
    int enough = 1, constant = 1, whole = 1;
    size_t bound = mem_bound(96 * MIB), used = 0;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        for (size_t i = 0; i < EACH && used + sizes[s] <= bound; i++) {
            blocks[s][i] = malloc(sizes[s]);
            capacities[s][i] = malloc_usable_size(blocks[s][i]);
            enough &= capacities[s][i] >= sizes[s];
            used += capacities[s][i];
            write_all(blocks[s][i], capacities[s][i], s * EACH + i);
        }
    }
    diag("capacities: %zu MiB at once", used / MIB);
    for (size_t s = 0; s < COUNT(sizes); s++)
        for (size_t i = 1; i < EACH; i += 2)
            free(blocks[s][i]), blocks[s][i] = NULL;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        for (size_t i = 0; i < EACH; i += 2) {
            if (!blocks[s][i])
                continue;
            constant &= malloc_usable_size(blocks[s][i]) == capacities[s][i];
            whole &= held(blocks[s][i], capacities[s][i], s * EACH + i) == capacities[s][i];
            free(blocks[s][i]);
        }
    }
    ok(enough, "malloc_usable_size is at least the size asked for");
    ok(constant, "malloc_usable_size is constant while other blocks come and go");
    ok(whole, "every byte of the capacity is the caller's");
}

/* The same at random, where a block may move to one that has more capacity, and a request between the two. */
static void large_capacities(void) {
    enum { STEPS = 3000, LEAST = 66000, MOST = 366000 };
    struct rng rng = rng_stream(7, 0);
    int whole = 1;
    for (int i = 0; i < STEPS; i++) {
        unsigned char *block = malloc(rng_between(&rng, LEAST, MOST));
        size_t before = malloc_usable_size(block);
        memset(block, 0x33, before);
        block = realloc(block, rng_between(&rng, LEAST, MOST));
        size_t after = malloc_usable_size(block);
        for (size_t j = 0; j < before && j < after; j++)
            whole &= block[j] == 0x33;
        memset(block, 0x44, after);
        free(block);
    }
    ok(whole, "LARGE blocks: realloc keeps contents up to the smaller capacity");
}

/* Dirty blocks are freed, and calloc of the same size must not show them. */
static void calloc_gives_zeros(void) {
    enum { EACH = 100 };
    int zero = 1;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        unsigned char *blocks[EACH];
        size_t count = sizes[s] <= 65536 ? EACH : 6;
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < count; i++) {
                blocks[i] = malloc(sizes[s]);
                memset(blocks[i], 0xff, malloc_usable_size(blocks[i]));
            }
            for (size_t i = 0; i < count; i++)
                free(blocks[i]);
            for (size_t i = 0; i < count; i++) {
                blocks[i] = calloc(sizes[s], 1);
                size_t capacity = malloc_usable_size(blocks[i]);
                for (size_t j = 0; j < capacity; j++)
                    zero &= blocks[i][j] == 0;
                memset(blocks[i], 0xff, capacity);
            }
            for (size_t i = 0; i < count; i++)
                free(blocks[i]);
        }
    }
    ok(zero, "calloc gives zeros, to the capacity, where dirty blocks were");
}

/* A heap large enough that freeing it purges: purged pages, too, come back as zeros. */
static void calloc_after_purge(void) {
    static unsigned char *blocks[100000];
    int zero = 1;
    static const size_t each[] = {700, 9000, 150000};
    for (size_t s = 0; s < COUNT(each); s++) {
        size_t count = mem_bound(64 * MIB) / each[s];
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < count; i++) {
                blocks[i] = calloc(1, each[s]);
                for (size_t j = 0; j < each[s]; j += 8)
                    zero &= blocks[i][j] == 0;
                zero &= blocks[i][each[s] - 1] == 0;
                memset(blocks[i], 0xee, each[s]);
            }
            for (size_t i = 0; i < count; i++)
                free(blocks[i]);
        }
    }
    ok(zero, "calloc gives zeros after a heap of 64 MiB was freed");
}

/* realloc of a LARGE block to a smaller size gives its tail pages back. */
static void shrinking_gives_back(void) {
    size_t size = mem_bound(128 * MIB), small = 100000;
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); /* what is retained of the swings above lapses */
    unsigned char *block = malloc(size);
    memset(block, 1, size);
    size_t full = resident();
    block = realloc(block, small);
    size_t after = resident();
    diag("%zu MiB shrunk to %zu bytes: resident %zu KiB, then %zu KiB", size / MIB, small, full / KIB, after / KIB);
    ok(full - after > size - 17 * MIB, "a LARGE block shrunk gives its tail pages back (16 MiB may be retained)");
    ok(block[0] == 1 && block[small - 1] == 1, "and keeps the rest");
    free(block);
}

int main(void) {
    struct rng rng = rng_stream(random_seed(), 0);
    every_transition();
    random_walk(&rng);
    steady_growth();
    capacity_is_the_callers();
    large_capacities();
    calloc_gives_zeros();
    calloc_after_purge();
    shrinking_gives_back();
    return tap_done();
}
