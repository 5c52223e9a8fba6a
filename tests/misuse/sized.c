/*
 * free_sized and free_aligned_sized with what does not fit, and malloc_usable_size of no live block: one line each.
 * The block is freed all the same. Each case is a process of its own.
 */
#include "cadastre.h"
#include "misuse/guard.h"

#include <malloc.h>

enum { UNTOUCHED = 4321 };

/* After its sized free the block is free: the register does not show it, and a further free is a double free. */
static void is_freed(void *block) {
    struct heapmap map = heapmap_read();
    check(!heapmap_find(&map, (uintptr_t)block), "the block is still live");
}

static void wrong_size(size_t size, size_t given, const char *place) {
    guard_set();
    void *block = malloc(size);
    size_t capacity = malloc_usable_size(block);
    errno = UNTOUCHED;
    free_sized(opaque(block), given);
    check(errno == UNTOUCHED, "errno changed to %d", errno);
    expect_report("free_sized(%p): wrong size: %zu given, block of %zu bytes (capacity %zu), %s", block, given, size,
                  capacity, place);
    is_freed(block);
    guard_check();
}

static void too_large(void) {
    wrong_size(42, 100, "arena #");
}

static void too_small(void) {
    wrong_size(42, 41, "arena #");
}

static void nothing_given(void) {
    wrong_size(42, 0, "arena #");
}

static void beyond_everything(void) {
    wrong_size(42, SIZE_MAX, "arena #");
}

static void small_wrong(void) {
    wrong_size(5000, 50, "arena #");
}

static void large_wrong(void) {
    wrong_size(1000000, 100, "LARGE");
}

static void aligned_wrong_size(void) {
    guard_set();
    void *block = aligned_alloc(64, 42);
    size_t capacity = malloc_usable_size(block);
    errno = UNTOUCHED;
    free_aligned_sized(opaque(block), 64, 1000);
    check(errno == UNTOUCHED, "errno changed to %d", errno);
    expect_report("free_aligned_sized(%p): wrong size: 1000 given, block of 42 bytes (capacity %zu), arena #", block,
                  capacity);
    is_freed(block);
    guard_check();
}

static void aligned_wrong_alignment(void) {
    guard_set();
    void *blocks[2] = {malloc(42), malloc(42)};
    void *block = (uintptr_t)blocks[0] % 4096 ? blocks[0] : blocks[1]; /* neighbours are not both on a page */
    free(block == blocks[0] ? blocks[1] : blocks[0]);
    size_t capacity = malloc_usable_size(block);
    errno = UNTOUCHED;
    free_aligned_sized(opaque(block), 4096, 42);
    check(errno == UNTOUCHED, "errno changed to %d", errno);
    expect_report("free_aligned_sized(%p): wrong alignment: 4096 given, block of 42 bytes (capacity %zu), arena #",
                  block, capacity);
    is_freed(block);
    guard_check();
}

static void sized_twice(void) {
    guard_set();
    void *block = malloc(42);
    size_t class = malloc_usable_size(block);
    free_sized(block, 42);
    free_sized(opaque(block), 42);
    expect_report("free_sized(%p): double free: block of class %zu bytes, arena #", block, class);
    free_aligned_sized(opaque(block), 16, 42);
    expect_report("free_aligned_sized(%p): double free: block of class %zu bytes, arena #", block, class);
    guard_check();
}

static void sized_interior(void) {
    guard_set();
    char *block = malloc(42);
    guard_live();
    free_sized(opaque(block + 8), 34);
    expect_report("free_sized(%p): not the start of a block: 8 bytes into a live block of 42 bytes at %p, arena #",
                  (void *)(block + 8), (void *)block);
    guard_check();
    free(block);
    expect_silence();
}

/* ---------------------------------------------------------------------------------- malloc_usable_size */
static void expect_unusable(void *pointer, const char *report) {
    errno = UNTOUCHED;
    check(malloc_usable_size(opaque(pointer)) == 0, "not 0");
    check(errno == UNTOUCHED, "errno changed to %d", errno);
    expect_report("malloc_usable_size(%p): %s", pointer, report);
}

static void usable_size_of_freed(void) {
    guard_set();
    void *block = malloc(64);
    free(block);
    expect_unusable(block, "use of a freed block: block of class 64 bytes, arena #");
    guard_check();
}

static void usable_size_of_interior(void) {
    guard_set();
    char *block = malloc(100), report[256];
    guard_live();
    snprintf(report, sizeof report, "not the start of a block: 48 bytes into a live block of 100 bytes at %p, arena #",
             (void *)block);
    expect_unusable(block + 48, report);
    guard_check();
    free(block);
}

static void usable_size_of_foreign(void) {
    char bytes[64] = "on the stack";
    guard_set();
    expect_unusable(bytes, "foreign pointer: lies in @-@ rw-p [stack]");
    check(malloc_usable_size(NULL) == 0, "malloc_usable_size(NULL) is not 0");
    guard_check();
}

static const struct test_case cases[] = {
    {"free_sized: too large", too_large},
    {"free_sized: one byte too small", too_small},
    {"free_sized: 0 given", nothing_given},
    {"free_sized: SIZE_MAX given", beyond_everything},
    {"free_sized: a SMALL block", small_wrong},
    {"free_sized: a LARGE block", large_wrong},
    {"free_aligned_sized: wrong size", aligned_wrong_size},
    {"free_aligned_sized: wrong alignment", aligned_wrong_alignment},
    {"free_sized, free_aligned_sized: twice", sized_twice},
    {"free_sized: inside a block", sized_interior},
    {"malloc_usable_size of a freed block", usable_size_of_freed},
    {"malloc_usable_size of the inside of a block", usable_size_of_interior},
    {"malloc_usable_size of foreign memory, and of NULL", usable_size_of_foreign},
};

MAIN_OF_CASES(cases)
