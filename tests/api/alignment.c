/*
 * Where blocks lie: every size at a multiple of 16, power-of-two classes at multiples of themselves, aligned requests
 * where they were asked for; and no two live blocks overlap.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "tap.h"
#include "threads/random.h"

#include <malloc.h>

enum { NEIGHBOURS = 40 };

/* Every size from TINY past the SMALL limit, several blocks at once, so that a slab's later blocks are seen too. */
static void every_size(void) {
    int aligned = 1, natural = 1, capacity = 1;
    for (size_t size = 0; size <= 70000; size += size < 4096 ? 1 : 13) {
        void *blocks[4];
        for (int i = 0; i < 4; i++) {
            blocks[i] = malloc(size);
            aligned &= (uintptr_t)blocks[i] % 16 == 0 && blocks[i] != NULL;
            size_t usable = malloc_usable_size(blocks[i]);
            capacity &= usable >= size;
            if ((usable & (usable - 1)) == 0 && usable <= 65536)
                natural &= (uintptr_t)blocks[i] % usable == 0;
        }
        for (int i = 0; i < 4; i++)
            free(blocks[i]);
    }
    ok(aligned, "every size from 0 to 70000: a multiple of 16");
    ok(capacity, "every size from 0 to 70000: at least the capacity asked for");
    ok(natural, "power-of-two classes are naturally aligned");
}

static void powers_of_two(void) {
    for (size_t size = 16; size <= 65536; size *= 2) {
        void *blocks[NEIGHBOURS];
        int natural = 1;
        for (int i = 0; i < NEIGHBOURS; i++)
            natural &= (blocks[i] = malloc(size)) && (uintptr_t)blocks[i] % size == 0;
        ok(natural, "malloc(%zu): a multiple of %zu", size, size);
        for (int i = 0; i < NEIGHBOURS; i++)
            free(blocks[i]);
    }
}

/* memalign, aligned_alloc and posix_memalign, each alignment with each kind of size; contents do not overlap. */
static void aligned_requests(void) {
    static const size_t sizes[] = {0,    1,     15,    16,    100,   500,    1024,   1025,
                                   4096, 10000, 33000, 65536, 65537, 200000, 1 << 20};
    size_t bound = mem_bound(256 * MIB);
    diag("aligned blocks: at most %zu MiB at once", bound / MIB);
    for (size_t alignment = 16; alignment <= 64 * MIB; alignment *= 2) {
        int good = 1;
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            if (3 * (alignment + sizes[s]) > bound)
                continue;
            void *blocks[3] = {memalign(alignment, sizes[s]), aligned_alloc(alignment, sizes[s]), NULL};
            good &= posix_memalign(&blocks[2], alignment, sizes[s]) == 0;
            for (int i = 0; i < 3; i++) {
                good &= blocks[i] && (uintptr_t)blocks[i] % alignment == 0 && malloc_usable_size(blocks[i]) >= sizes[s];
                if (blocks[i] && sizes[s])
                    memset(blocks[i], i + 1, sizes[s]);
            }
            for (int i = 0; i < 3; i++) {
                const unsigned char *bytes = blocks[i];
                good &= sizes[s] == 0 || (bytes && bytes[0] == i + 1 && bytes[sizes[s] - 1] == i + 1);
                free(blocks[i]);
            }
        }
        ok(good, "alignment %zu, sizes 0 to 1 MiB", alignment);
    }
}

/* An aligned block may be resized like any other; its contents come along. */
static void aligned_then_resized(void) {
    int kept = 1;
    for (size_t alignment = 32; alignment <= MIB; alignment *= 2) {
        unsigned char *block = aligned_alloc(alignment, 100);
        memset(block, 0x3c, 100);
        static const size_t sizes[] = {200, 5000, 100000, 3000, 50};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            block = realloc(block, sizes[i]);
            for (size_t j = 0; j < 50; j++)
                kept &= block[j] == 0x3c;
        }
        free(block);
    }
    ok(kept, "realloc of an aligned block keeps its contents");
}

struct wanted {
    void *block;
    size_t size;
};

static int is_wanted(void *argument, const cadastre_block *block) {
    const struct wanted *wanted = argument;
    return block->address == wanted->block && block->size == wanted->size;
}

/* Whatever its place was made for, the size of a block is the one that was asked for. */
static void aligned_and_told(void) {
    static const size_t sizes[] = {0, 1, 100, 65535, 65536, 65537};
    int told = 1;
    for (size_t alignment = 16; alignment <= 2 * MIB; alignment *= 2) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct wanted wanted = {aligned_alloc(alignment, sizes[i]), sizes[i]};
            told &= cadastre_walk(is_wanted, &wanted);
            free(wanted.block);
        }
    }
    ok(told, "the size of an aligned block is told as it was asked for");
}

enum { SLOTS = 300, STEPS = 20000 };

static struct {
    unsigned char *block;
    size_t size;
} slots[SLOTS];

static size_t faults; /* of the heap: contents, alignments, sums */

static void put(size_t i, unsigned char *block, size_t size, size_t alignment) {
    faults += block == NULL || (uintptr_t)block % alignment != 0 || malloc_usable_size(block) < size;
    slots[i].block = block;
    slots[i].size = block ? size : 0;
    pattern_write(slots[i].block, slots[i].size, i);
}

/* The size of a block, most of them small. */
static size_t any_size(struct rng *rng) {
    size_t most = (size_t)16 << rng_between(rng, 0, 15);
    return rng_between(rng, 1, most);
}

static void all_is_well(void) {
    struct cadastre_stats stats;
    faults += cadastre_check() != 0;
    faults += cadastre_stats(&stats, sizeof stats) != 0 || stats.mapped.other != 0;
}

/* Sizes and alignments as they come, taken, resized and freed; what lies between blocks is taken, cut and joined. */
static void mixed_at_random(void) {
    struct rng rng = rng_stream(random_seed(), 0);
    for (int step = 0; step < STEPS; step++) {
        size_t i = rng_between(&rng, 0, SLOTS - 1), size = any_size(&rng), kind = rng_between(&rng, 0, 5);
        size_t alignment = kind < 4 ? (size_t)16 << rng_between(&rng, 0, 17) : 16;
        faults += !pattern_holds(slots[i].block, slots[i].size, i);
        if (kind == 5 && slots[i].block) {
            size_t kept = size < slots[i].size ? size : slots[i].size;
            unsigned char *block = realloc(slots[i].block, size);
            faults += block == NULL || (kept < 256 && !pattern_holds(block, kept, i));
            put(i, block, size, 16);
        } else {
            free(slots[i].block);
            put(i, aligned_alloc(alignment, size), size, alignment);
        }
        if (step % 500 == 0)
            all_is_well();
    }
    for (size_t i = 0; i < SLOTS; i++) {
        faults += !pattern_holds(slots[i].block, slots[i].size, i);
        free(slots[i].block);
        slots[i].block = NULL;
    }
    all_is_well();
    ok(faults == 0, "%d random steps: %zu faults of contents, alignments or sums", STEPS, faults);
}

int main(void) {
    every_size();
    powers_of_two();
    aligned_requests();
    aligned_then_resized();
    aligned_and_told();
    mixed_at_random();
    return tap_done();
}
