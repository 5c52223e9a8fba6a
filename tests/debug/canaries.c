/*
 * CADASTRE_CANARIES: a byte written past the end of any block, of any size and alignment, is found when the block is
 * freed, when it is resized, and by cadastre_check, whose result is the number of faults; what a program writes within
 * its blocks is never reported; and the usable size is the requested one.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "threads/random.h"

#include <malloc.h>

/* To the last that is SMALL, over what with its canary is LARGE, and whole pages. */
static const size_t larger[] = {511,   512,   1000,  1016,  1017,  1023,  1024,  1025,   4088,   4096,   8191,
                                32767, 65527, 65528, 65529, 65535, 65536, 65537, 100000, 135168, 1 << 20};

static size_t size_number(size_t i) {
    return i <= 300 ? i : larger[i - 301];
}

#define SIZES (301 + COUNT(larger))

static unsigned char *block_of(size_t size) {
    unsigned char *block = opaque(malloc(size));
    check(block, "no memory for %zu bytes", size);
    check(malloc_usable_size(block) == size, "%zu bytes: %zu are usable", size, malloc_usable_size(block));
    memset(block, 0xCA ^ 0xff, size);
    return block;
}

#define PAST "written past the end of the block: byte %zu is 0x1, block of %zu bytes, *"

/* Each size has a process of its own, as of many reports not all are printed. */
static void free_finds_it(size_t i) {
    size_t size = size_number(i);
    for (size_t behind = 0; behind < 8; behind += 7) {
        unsigned char *block = block_of(size);
        check(cadastre_check() == 0, "%zu bytes: a fault before there is one", size);
        expect_no_more();
        block[size + behind] = 1;
        check(cadastre_check() == 1, "%zu bytes: cadastre_check does not find byte %zu", size, size + behind);
        expect("cadastre_check(0x@): " PAST, size + behind, size);
        expect_who("taken", this_thread(), NULL);
        free(block);
        expect("free(0x@): " PAST, size + behind, size);
        expect_who("called", this_thread(), NULL);
        expect_who("taken", this_thread(), NULL);
        check(cadastre_check() == 0, "%zu bytes: a fault after the block is gone", size);
        expect_no_more();
    }
}

static void realloc_finds_it(size_t i) {
    size_t size = size_number(i);
    size_t sizes[] = {size + 1, size / 2 + 1, size + 100000};
    for (size_t j = 0; j < COUNT(sizes); j++) {
        unsigned char *block = block_of(size);
        block[size] = 1;
        block = realloc(block, sizes[j]);
        expect("realloc(0x@): " PAST, size, size);
        expect_who("called", this_thread(), NULL);
        expect_who("taken", this_thread(), NULL);
        expect_no_more();
        check(malloc_usable_size(block) == sizes[j], "%zu bytes are usable, not %zu", malloc_usable_size(block),
              sizes[j]);
        block[sizes[j] - 1] = 1;
        free(block);
        expect_no_more();
    }
}

static void every_size(void) {
    for (size_t i = 0; i < SIZES; i++) {
        check(forked(free_finds_it, i) == 0, "free, %zu bytes", size_number(i));
        check(forked(realloc_finds_it, i) == 0, "realloc, %zu bytes", size_number(i));
    }
}

/* Blocks that are shrunk in place, and grow within what they have: the canary follows. */
static void resized(void) {
    unsigned char *block = block_of(10);
    pattern_write(block, 10, 5);
    for (size_t size = 11; size < 200000; size += size / 7 + 1) {
        block = realloc(block, size);
        check(pattern_holds(block, 10, 5), "growing to %zu lost the contents", size);
        check(malloc_usable_size(block) == size, "%zu bytes: %zu are usable", size, malloc_usable_size(block));
        memset(block + 10, 1, size - 10);
        check(cadastre_check() == 0, "%zu bytes: a fault where there is none", size);
    }
    for (size_t size = 200000; size > 10; size -= size / 7 + 1) {
        block = realloc(block, size);
        check(pattern_holds(block, 10, 5), "shrinking to %zu lost the contents", size);
        memset(block + 10, 1, size - 10);
        check(cadastre_check() == 0, "%zu bytes: a fault where there is none", size);
    }
    free(block);
}

static void aligned(void) {
    static const size_t sizes[] = {0, 1, 8, 24, 100, 1000, 1024, 5000, 40000, 65530, 65536, 100000};
    size_t found = 0;
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            unsigned char *block = opaque(memalign(alignment, sizes[i]));
            check(block && (uintptr_t)block % alignment == 0, "%p is not aligned to %zu", (void *)block, alignment);
            check(malloc_usable_size(block) == sizes[i], "%zu bytes: %zu usable", sizes[i], malloc_usable_size(block));
            memset(block, 1, sizes[i]);
            check(cadastre_check() == 0, "%zu bytes at %zu: a fault where there is none", sizes[i], alignment);
            unsigned char before = block[sizes[i]];
            block[sizes[i]]++;
            check(cadastre_check() == 1, "%zu bytes at %zu: the fault is not found", sizes[i], alignment);
            found++;
            block[sizes[i]] = before;
            free(block);
        }
    }
    check(found == 17 * COUNT(sizes), "%zu faults", found);
    errors_skip();
}

/* More than a report lists. */
static void several(void) {
    unsigned char *blocks[40];
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = block_of(i * 70);
    for (size_t i = 0; i < COUNT(blocks); i++) {
        unsigned char before = blocks[i][i * 70];
        check(cadastre_check() == (int)i, "%d faults, not %zu", cadastre_check(), i);
        blocks[i][i * 70] = (unsigned char)(before + 1);
    }
    errors_skip();
}

/* Programs that write what they asked for. */
static void exact_writers(void) {
    static struct {
        unsigned char *block;
        size_t size;
    } slots[500];
    struct rng rng = rng_stream(random_seed(), 1);
    for (size_t step = 0; step < 30000; step++) {
        size_t i = rng_between(&rng, 0, COUNT(slots) - 1);
        size_t size = rng_size(&rng);
        size_t kept = slots[i].size < size ? slots[i].size : size;
        check(pattern_holds(slots[i].block, slots[i].size, i), "a block of %zu bytes changed", slots[i].size);
        switch (rng_between(&rng, 0, 3)) {
        case 0:
            slots[i].block = realloc(slots[i].block, size + 1);
            for (size_t at = 0; at < (kept < 256 ? kept : 256); at++)
                check(slots[i].block[at] == pattern_at(i, at), "realloc to %zu lost byte %zu", size + 1, at);
            slots[i].size = size + 1;
            break;
        case 1:
            free(slots[i].block);
            slots[i].block = calloc(1, size);
            slots[i].size = size;
            break;
        case 2:
            free_sized(slots[i].block, slots[i].size);
            slots[i].block = aligned_alloc((size_t)1 << rng_between(&rng, 0, 13), size);
            slots[i].size = size;
            break;
        default:
            free(slots[i].block);
            slots[i].block = malloc(size);
            slots[i].size = size;
            break;
        }
        pattern_write(slots[i].block, slots[i].size, i);
    }
    check(cadastre_check() == 0, "a fault where there is none");
}

#define ON "CADASTRE_CANARIES=1"

static const struct debug_case cases[] = {
    {{"every size", every_size}, {ON}, .errors = NULL},
    {{"every size, with guard pages and quarantine", every_size},
     {ON, "CADASTRE_GUARD=edges", "CADASTRE_QUARANTINE=1M"},
     .errors = NULL},
    {{"resized", resized}, {ON}, .errors = ""},
    {{"aligned", aligned}, {ON}, .errors = NULL},
    {{"aligned, with guard pages", aligned}, {ON, "CADASTRE_GUARD=edges"}, .errors = NULL},
    {{"several", several}, {ON}, .errors = NULL},
    {{"exact writers", exact_writers}, {ON}, .errors = ""},
    {{"exact writers, all modes", exact_writers}, {ALL_MODES}, .errors = ""},
    {{"exact writers, checked as they go", exact_writers}, {ON, "CADASTRE_CHECK_EACH=500"}, .errors = ""},
};

MAIN_OF_DEBUG_CASES(cases)
