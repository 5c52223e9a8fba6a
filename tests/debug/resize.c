/*
 * What realloc does in the debugging modes: it moves a block, so that what still uses the old one is found out; but one
 * that it has moved, and that is LARGE, stays while there is room, so that growth in steps does not copy it each time.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "limits/memory.h"

#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>

enum { STEP = 4096, STEPS = 1024, PAST = 3 };

static size_t moves;

static unsigned char *resize(unsigned char *block, size_t size) {
    uintptr_t before = (uintptr_t)block;
    block = realloc(block, size);
    check(block, "no memory for %zu bytes", size);
    moves += (uintptr_t)block != before;
    return block;
}

static int is_all(const unsigned char *bytes, size_t from, size_t to, int byte) {
    while (from < to && bytes[from] == byte)
        from++;
    return from >= to;
}

/* By steps of a page up to 4 MiB, and back. An eighth at a time it is 34 moves above 64 KiB. */
static void grows_and_shrinks(void) {
    unsigned char *block = malloc(STEP);
    memset(block, 1, STEP);
    for (size_t i = 2; i <= STEPS; i++) {
        block = resize(block, i * STEP);
        check(block[0] == 1 && block[(i - 1) * STEP - 1] == (unsigned char)(i - 1), "step %zu lost some", i);
        memset(block + (i - 1) * STEP, (int)i, STEP);
    }
    for (size_t i = 0; i < STEPS; i++)
        check(is_all(block, i * STEP, (i + 1) * STEP, (unsigned char)(i + 1)), "page %zu is not as it was", i);
    check(moves < 16 + 60, "%zu moves of %d steps", moves, STEPS);
    check(cadastre_check() == 0, "the heap is not whole");
    moves = 0;
    for (size_t i = STEPS - 1; i > 0; i--) {
        block = resize(block, i * STEP);
        check(block[i * STEP - 1] == (unsigned char)i, "step %zu back lost some", i);
    }
    check(moves < 16 + 20, "%zu moves of %d steps back", moves, STEPS);
    check(cadastre_check() == 0, "the heap is not whole");
    free(block);
}

/* The first time, whatever the size, and small blocks always. */
static void moves_at_first(void) {
    static const size_t sizes[] = {10, 100, 1000, 10000, 60000, 70000, 100000, 1000000, 5000000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *block = malloc(sizes[i]);
        moves = 0;
        block = resize(block, sizes[i] + 1);
        check(moves == 1, "%zu bytes did not move", sizes[i]);
        block = resize(block, sizes[i] + 2);
        check(moves == (sizes[i] < 65000 ? 2 : 1), "%zu bytes: %zu moves", sizes[i], moves);
        block = resize(block, sizes[i] / 3);
        check(moves == (sizes[i] < 65000 ? 3 : 2), "%zu bytes to a third: %zu moves", sizes[i], moves);
        free(block);
    }
}

/* A block that has moved to `size` bytes. */
static unsigned char *moved_to(size_t size) {
    return opaque(realloc(malloc(100), size));
}

static void overruns_are_found(void) {
    for (size_t size = 70000; size < 2000000; size += size / 3) {
        unsigned char *block = moved_to(size);
        block[size + PAST] ^= 1;
        moves = 0;
        block = resize(block, size + 100);
        check(moves == 0, "%zu bytes moved", size);
        expect("realloc(0x@): written past the end of the block: byte %zu is 0x@, block of %zu bytes, *", size + PAST,
               size);
        expect_who("called", this_thread(), NULL);
        expect_who("taken", this_thread(), NULL);
        expect_no_more();
        block[size + 99] = 1;
        check(cadastre_check() == 0, "what grew is taken for an overrun");
        block = resize(block, size - 100);
        check(moves == 0, "%zu bytes moved", size);
        check(cadastre_check() == 0, "what shrank is an overrun");
        block[size - 100] ^= 1;
        free(block);
        expect("free(0x@): written past the end of the block: byte %zu is 0x@, block of %zu bytes, *", size - 100,
               size - 100);
        expect_who("called", this_thread(), NULL);
        expect_who("taken", this_thread(), NULL);
    }
    expect_no_more();
}

/* What a block grows by is filled as if it were taken, where it was not the program's before. */
static void growth_is_filled(void) {
    unsigned char *block = moved_to(100000);
    memset(block, 1, 100000);
    moves = 0;
    block = resize(block, 105000);
    check(moves == 0 && malloc_usable_size(block) == 105000, "it moved");
    check(is_all(block, 0, 100000, 1) && is_all(block, 100000, 105000, 0xaa), "what it grew by is not 0xaa");
    free(block);
    block = moved_to(100000);
    block = resize(block, 90000);
    block = resize(block, 100000);
    check(is_all(block, 90000, 100000, 0xaa), "what it shrank and grew by is not 0xaa");
    free(block);
}

/* Whether the kernel may read the byte there for us. */
static int is_accessible(const unsigned char *byte) {
    static int pipes[2] = {-1, -1};
    char read_back;
    if (pipes[0] < 0 && pipe(pipes) != 0)
        return 1;
    return write(pipes[1], byte, 1) == 1 && read(pipes[0], &read_back, 1) == 1;
}

static void guards_stay_behind(void) {
    const size_t page = malloc_good_size(MIB + 1) - MIB; /* the one that the library goes by */
    unsigned char *block = moved_to(page);
    moves = 0;
    for (size_t size = 20 * page; size < 300 * page; size += page) {
        block = resize(block, size);
        check(is_accessible(block + size - 1) && !is_accessible(block + size), "no guard behind %zu bytes", size);
        check(!is_accessible(block - 1), "no guard before %zu bytes", size);
        block[size - 1] = 1;
    }
    check(moves < 60, "%zu moves", moves);
    check(cadastre_check() == 0, "the heap is not whole");
    free(block);
    check(!is_accessible(block) && !is_accessible(block + 299 * page), "it can be used when it is freed");
}

static char shown[65536];

static void history_says_so(void) {
    unsigned char *block = moved_to(100000);
    block = resize(block, 100001);
    free(block);
    int file = memfd_create("shown", 0);
    struct cadastre_show show = {sizeof show, .what = CADASTRE_SHOW_HISTORY, .fd = file};
    show_alloc_mem_ex(&show);
    check(file >= 0 && pread(file, shown, sizeof shown - 1, 0) > 0, "no history");
    const char *first = strstr(shown, ": 100000 bytes"), *then = first ? strstr(first + 1, ": 100000 bytes") : NULL;
    check(then && strstr(then, "takes") && strstr(then, ": 100001 bytes"), "a resize is not seen: %s", shown);
}

static const struct debug_case cases[] = {
    {{"scribble", grows_and_shrinks}, {"CADASTRE_SCRIBBLE=1"}, .errors = ""},
    {{"perturb", grows_and_shrinks}, {"CADASTRE_PERTURB=90"}, .errors = ""},
    {{"canaries", grows_and_shrinks}, {"CADASTRE_CANARIES=1"}, .errors = ""},
    {{"guard", grows_and_shrinks}, {"CADASTRE_GUARD=edges"}, .errors = ""},
    {{"guard and canaries", grows_and_shrinks}, {"CADASTRE_GUARD=edges", "CADASTRE_CANARIES=1"}, .errors = ""},
    {{"quarantine", grows_and_shrinks}, {"CADASTRE_QUARANTINE=16M"}, .errors = ""},
    {{"all modes", grows_and_shrinks}, {ALL_MODES}, .errors = ""},
    {{"moves at first", moves_at_first}, {"CADASTRE_SCRIBBLE=1", "CADASTRE_QUARANTINE=64M"}, .errors = ""},
    {{"moves at first, guard", moves_at_first}, {"CADASTRE_GUARD=edges", "CADASTRE_QUARANTINE=64M"}, .errors = ""},
    {{"overruns", overruns_are_found}, {"CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"overruns, all modes", overruns_are_found}, {ALL_MODES}, .errors = NULL},
    {{"fill", growth_is_filled}, {"CADASTRE_SCRIBBLE=1", "CADASTRE_CANARIES=1"}, .errors = ""},
    {{"guards", guards_stay_behind}, {"CADASTRE_GUARD=edges"}, .errors = ""},
    {{"history", history_says_so}, {"CADASTRE_HISTORY=100"}, .errors = ""},
};

MAIN_OF_DEBUG_CASES(cases)
