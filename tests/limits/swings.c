/*
 * Memory that comes and goes for ever: what is mapped, resident and kept for looking addresses up is bounded by the
 * most that was in use at once, however often zones are unmapped and mapped again. Each case is a process of its own.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "misuse/child.h"

#include <malloc.h>
#include <sys/resource.h>

enum { BLOCKS = 3200, SIZE = 60000 };

static void *blocks[BLOCKS];

static void trim(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* A heap of `count` blocks is built and freed. The blocks are not written to. */
static void swing(size_t count, int is_trimmed) {
    for (size_t i = 0; i < count; i++)
        check((blocks[i] = malloc(SIZE)) != NULL, "block %zu of %zu was refused", i, count);
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    if (is_trimmed)
        trim();
}

/* Once it has swung for a while, no more is resident however often it swings again. */
static void repeat(size_t count, int cycles, int is_trimmed) {
    for (int i = 0; i < 50; i++)
        swing(count, is_trimmed);
    size_t before = resident(), address = (size_t)blocks[count / 2];
    for (int i = 0; i < cycles; i++)
        swing(count, is_trimmed);
    size_t after = resident();
    diag("%zu KiB resident after 50 swings, %zu after %d more; a block at %zx, then at %zx", before / KIB, after / KIB,
         cycles, address, (size_t)blocks[count / 2]);
    check(after < before + 2 * MIB, "from %zu to %zu KiB", before / KIB, after / KIB);
}

static void trimmed(void) {
    repeat(1000, 1000, 1);
}

static void untrimmed(void) {
    repeat(BLOCKS, 200, 0);
}

/* Half of the zones stand all the while, and LARGE blocks come and go where zones were. */
static void among_others(void) {
    static void *others[64], *large[8];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(SIZE);
        if (i % 50 == 0)
            others[i / 50] = malloc(SIZE);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    trim();
    size_t start = resident();
    for (int i = 0; i < 600; i++) {
        for (int k = 0; k < 8; k++)
            large[k] = malloc((size_t)(1 + (i + k) % 7) * MIB);
        swing(1000, 1);
        for (int k = 0; k < 8; k++)
            free(large[k]);
    }
    check(resident() < start + 4 * MIB, "from %zu to %zu KiB", start / KIB, resident() / KIB);
    for (int i = 0; i < 64; i++)
        free(others[i]);
}

static void address_space_128_mib(void) {
    struct rlimit limit = {.rlim_cur = 128 * MIB, .rlim_max = 128 * MIB};
    setrlimit(RLIMIT_AS, &limit);
}

static void under_a_limit(void) {
    for (int i = 0; i < 8000; i++)
        swing(500, 1);
}

static const struct set_case cases[] = {
    {{"57 MiB, trimmed each time", trimmed}, NULL, NULL},
    {{"183 MiB, not trimmed", untrimmed}, NULL, NULL},
    {{"zones and LARGE blocks that stay, and others that come and go", among_others}, NULL, NULL},
    {{"29 MiB in an address space of 128 MiB, again and again", under_a_limit}, address_space_128_mib, NULL},
};

MAIN_OF_SET_CASES(cases)
