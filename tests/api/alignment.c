/*
 * Where blocks lie: every size at a multiple of 16, power-of-two classes at multiples of themselves, aligned requests
 * where they were asked for; and no two live blocks overlap.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "tap.h"

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

int main(void) {
    every_size();
    powers_of_two();
    aligned_requests();
    aligned_then_resized();
    return tap_done();
}
