/*
 * CADASTRE_SCRIBBLE finds what is written to a freed block: when it leaves the quarantine, or is handed out again.
 * Once, with the block's size, and who freed it; and no block that nobody wrote to is reported, whatever it was before.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "threads/random.h"

#include <malloc.h>

/* Frees a block, writes to it, and takes blocks until it is handed out again, which is when it is to be reported. */
static void written(size_t size, size_t offset, unsigned char value, void *(*take)(size_t)) {
    static void *others[100000];
    size_t count = 0;
    void *neighbour = opaque(malloc(size)); /* keeps the slab */
    unsigned char *block = opaque(malloc(size));
    free(block);
    *(volatile unsigned char *)(block + offset) = value;
    expect_no_more();
    do
        others[count] = take(size);
    while (others[count++] != block && count < COUNT(others));
    check(others[count - 1] == block, "%zu bytes: the block is not handed out again", size);
    while (count > 0)
        free(others[--count]);
    free(neighbour);
}

static void *take_zero(size_t size) {
    return opaque(calloc(1, size));
}

static void *take_plain(size_t size) {
    return opaque(malloc(size));
}

#define REPORT "written after it was freed: byte %zu is 0x%x, block of %zu bytes, *"

static void at_reuse(void) {
    static const size_t sizes[] = {1, 42, 1000, 5000, 60000, 200000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t offset = sizes[i] / 2;
        written(sizes[i], offset, 1, take_plain);
        expect("malloc(0x@): " REPORT, offset, 1u, sizes[i]);
        expect_who("given back", this_thread(), NULL);
        written(sizes[i], 0, 0xaa, take_zero);
        expect("*(0x@): " REPORT, (size_t)0, 0xaau, sizes[i]);
        expect_who("given back", this_thread(), NULL);
        expect_no_more();
    }
}

/* What programs write most. */
static void zero_at_reuse(void) {
    static const size_t sizes[] = {42, 1000, 5000, 200000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        written(sizes[i], 8, 0, take_plain);
        expect("malloc(0x@): " REPORT, (size_t)8, 0u, sizes[i]);
        expect_who("given back", this_thread(), NULL);
        expect_no_more();
    }
}

/* Past what was asked for, but in the block. */
static void behind_the_size(void) {
    written(42, 45, 7, take_plain);
    expect("malloc(0x@): " REPORT, (size_t)45, 7u, (size_t)42);
    expect_who("given back", this_thread(), NULL);
    expect_no_more();
}

static void push_out(size_t bytes) {
    for (size_t i = 0; i < bytes / 10000; i++)
        free(opaque(malloc(10000)));
}

static void in_quarantine(void) {
    static const size_t sizes[] = {1, 42, 1000, 5000, 60000, 200000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *neighbour = opaque(malloc(sizes[i]));
        unsigned char *block = opaque(malloc(sizes[i]));
        free(block);
        *(volatile unsigned char *)(block + sizes[i] - 1) = (unsigned char)(i % 2);
        expect_no_more();
        push_out((size_t)2 << 20);
        expect("quarantine(0x@): " REPORT, sizes[i] - 1, (unsigned)(i % 2), sizes[i]);
        expect_who("given back", this_thread(), NULL);
        for (size_t j = 0; j < 2000; j++)
            free(opaque(malloc(sizes[i])));
        expect_no_more();
        free(neighbour);
    }
}

/* The kernel has had the memory since, so that it is zero but for what was written. calloc may not trust it. */
static void at_reuse_of_purged(size_t size, size_t reused_size, const char *report) {
    static unsigned char *blocks[2000];
    size_t count = ((size_t)24 << 20) / size < COUNT(blocks) ? ((size_t)24 << 20) / size : COUNT(blocks);
    for (size_t i = 0; i < count; i++)
        blocks[i] = opaque(malloc(size));
    unsigned char *written = blocks[count / 2];
    unsigned char *neighbour = blocks[count / 2 + ((size_t)128 << 10) / size]; /* in the same zone, but not unit */
    for (size_t i = 0; i < count; i++)
        if (blocks[i] != neighbour)
            free(blocks[i]);
    malloc_trim(0);
    check(written[0] == 0, "not purged");
    written[5] = 7;
    for (size_t i = 0; i < COUNT(blocks) && !error_line(); i++) {
        unsigned char *zero = opaque(calloc(1, reused_size));
        for (size_t at = 0; at < reused_size; at++)
            check(zero[at] == 0, "calloc gives a byte %d", zero[at]);
    }
    expect(report, reused_size);
}

static void purged(void) {
    at_reuse_of_purged(30000, 30000,
                       "malloc(0x@): written after it was freed: byte 5 is 0x7, block of %zu bytes, arena #");
    expect_who("given back", this_thread(), NULL);
    expect_no_more();
}

static void purged_and_cut_anew(void) {
    at_reuse_of_purged(30000, 14000, "malloc(0x@): written *: byte # is 0x7, block of # bytes, arena #");
}

static __attribute__((noinline)) void frees(void *block) {
    free(block);
    __asm__ volatile("" : : : "memory"); /* no tail call */
}

static void with_stack(void) {
    char first[512] = "";
    void *neighbour = opaque(malloc(42));
    unsigned char *block = opaque(malloc(42));
    frees(block);
    block[5] = 1;
    for (int i = 0; i < 10000 && !error_line(); i++)
        opaque(malloc(42));
    expect("malloc(0x@): " REPORT, (size_t)5, 1u, (size_t)42);
    size_t calls = expect_who("given back", this_thread(), first);
    check(calls >= 4 && matches(first, "case+0x@"), "%zu calls, the first %s", calls, first);
    expect_no_more();
    free(neighbour);
}

/* Slabs that serve one class after another, LARGE spans that are cut and joined, pages that go back to the kernel. */
static void innocent(void) {
    static struct {
        unsigned char *block;
        size_t size;
    } slots[2000];
    struct rng rng = rng_stream(random_seed(), 1);
    for (size_t phase = 0; phase < 60; phase++) {
        size_t most = (size_t)1 << rng_between(&rng, 4, 17);
        size_t count = most > 8192 ? 100 : COUNT(slots);
        for (size_t i = 0; i < count; i++) {
            size_t size = rng_between(&rng, 0, most);
            switch (rng_between(&rng, 0, 3)) {
            case 0:
                free(slots[i].block);
                slots[i].block = calloc(1, size);
                break;
            case 1:
                slots[i].block = realloc(slots[i].block, size + 1);
                break;
            default:
                free(slots[i].block);
                slots[i].block = malloc(size);
                break;
            }
            memset(opaque(slots[i].block), (int)rng_between(&rng, 0, 255), size);
        }
        if (phase % 3 == 2)
            for (size_t i = 0; i < COUNT(slots); i++) {
                free(slots[i].block);
                slots[i].block = NULL;
            }
    }
    check(cadastre_check() == 0, "a fault where there is none");
}

#define ON    "CADASTRE_SCRIBBLE=1"
#define KEEPS "CADASTRE_QUARANTINE=1M"

static const struct debug_case cases[] = {
    {{"at reuse", at_reuse}, {ON}, .errors = NULL},
    {{"zero, at reuse", zero_at_reuse}, {ON}, .errors = NULL},
    {{"behind the size", behind_the_size}, {ON}, .errors = NULL},
    {{"in quarantine", in_quarantine}, {ON, KEEPS}, .errors = NULL},
    {{"in quarantine, with canaries", in_quarantine}, {ON, KEEPS, "CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"purged", purged}, {ON}, .errors = NULL},
    {{"purged, with canaries", purged}, {ON, "CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"purged, and cut anew", purged_and_cut_anew}, {ON}, .errors = NULL},
    {{"with its stack", with_stack}, {ON, "CADASTRE_STACKS=16"}, .errors = NULL},
    {{"innocent", innocent}, {ON}, .errors = ""},
    {{"innocent, in quarantine", innocent}, {ON, KEEPS}, .errors = ""},
    {{"innocent, all modes", innocent}, {ALL_MODES}, .errors = ""},
};

MAIN_OF_DEBUG_CASES(cases)
