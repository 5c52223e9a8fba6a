/*
 * CADASTRE_QUARANTINE: freed blocks are not handed out again while they are in it, so that freeing or resizing them
 * once more is found, whatever was freed since; it holds no more than it is told to; and a block that is larger than
 * all of it does no harm.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "limits/memory.h"

#include <malloc.h>

static void not_reused(void) {
    static const size_t sizes[] = {1, 64, 1000, 10000, 100000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *block = opaque(malloc(sizes[i]));
        size_t kept = malloc_usable_size(block);
        size_t room = MIB - 2 * kept;
        free(block);
        for (size_t freed = 0; freed < room; freed += kept) {
            void *other = opaque(malloc(sizes[i]));
            check(other != block, "%zu bytes: reused after %zu bytes were freed", sizes[i], freed);
            free(other);
        }
    }
}

/* And not for ever. */
static void reused_later(void) {
    void *neighbour = opaque(malloc(1000));
    void *block = opaque(malloc(1000));
    free(block);
    for (size_t freed = 0; freed < 8 * MIB; freed += 1000) {
        void *other = opaque(malloc(1000));
        free(other);
        if (other == block)
            _exit(0);
    }
    free(neighbour);
    check(0, "the block is never handed out again");
}

static void *freed_a_while_ago(size_t size) {
    void *block = opaque(malloc(size));
    free(block);
    for (size_t i = 0; i < 100; i++)
        free(opaque(malloc(size % 1000 + 1)));
    return block;
}

static void freed_twice(void) {
    void *block = freed_a_while_ago(42);
    free(block);
    expect("free(0x@): double free: block of 42 bytes, arena #");
    expect_who("called", this_thread(), NULL);
    expect_who("given back", this_thread(), NULL);
    check(!realloc(block, 10) && errno == EINVAL, "a freed block is resized");
    expect("realloc(0x@): use of a freed block: block of 42 bytes, arena #");
    expect_who("called", this_thread(), NULL);
    expect_who("given back", this_thread(), NULL);
    check(malloc_usable_size(block) == 0, "a freed block is usable");
    expect("malloc_usable_size(0x@): use of a freed block: block of 42 bytes, arena #");
    expect_who("called", this_thread(), NULL);
    expect_who("given back", this_thread(), NULL);

    block = freed_a_while_ago(200000);
    free(block);
    expect("free(0x@): double free: block of 200000 bytes, LARGE");
    expect_who("called", this_thread(), NULL);
    expect_who("given back", this_thread(), NULL);
    check(!realloc(block, 10) && errno == EINVAL, "a freed LARGE block is resized");
    expect("realloc(0x@): use of a freed block: block of 200000 bytes, LARGE");
    expect_who("called", this_thread(), NULL);
    expect_who("given back", this_thread(), NULL);
    expect_no_more();
    check(cadastre_check() == 0, "the heap is not whole");
}

/* Also a block that the quarantine does not keep is known to be freed, as long as its memory is not used again. */
static void freed_twice_unkept(void) {
    void *neighbour = opaque(malloc(42));
    void *block = opaque(malloc(42));
    free(block);
    free(block);
    expect("free(0x@): double free: block of 42 bytes, arena #");
    errors_skip();
    block = opaque(malloc(4200)); /* alone in its slab, which is none any more */
    free(block);
    free(block);
    expect("free(0x@): double free: block of 4200 bytes, arena #");
    errors_skip();
    free(neighbour);
}

/* With what the allocator itself retains, 16 MiB; and some for the ledger. */
static void bounded(void) {
    static const size_t sizes[] = {16, 10000, 60000, 300000};
    size_t bytes = mem_bound(32 * MIB);
    diag("%zu MiB are freed of each size", bytes / MIB);
    size_t before = resident();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t freed = 0; freed < bytes; freed += sizes[i] < 100 ? 100 : sizes[i]) {
            void *block = malloc(sizes[i]);
            memset(opaque(block), 1, sizes[i]);
            free(block);
        }
        size_t now = resident();
        check(now < before + 40 * MIB, "%zu bytes: %zu KiB resident, %zu before", sizes[i], now / KIB, before / KIB);
    }
}

static void larger_than_all(void) {
    for (size_t i = 0; i < 100; i++) {
        char *block = malloc(5000 + i * 10000);
        memset(opaque(block), 1, 5000);
        free(block);
    }
    check(cadastre_check() == 0, "the heap is not whole");
}

#define SOME "CADASTRE_QUARANTINE=1M"

static const struct debug_case cases[] = {
    {{"not reused", not_reused}, {SOME}, .errors = ""},
    {{"not reused, scribbled", not_reused}, {SOME, "CADASTRE_SCRIBBLE=1"}, .errors = ""},
    {{"reused later", reused_later}, {SOME}, .errors = ""},
    {{"freed twice", freed_twice}, {SOME}, .errors = NULL},
    {{"freed twice, with stacks", freed_twice}, {SOME, "CADASTRE_STACKS=16"}, .errors = NULL},
    {{"freed twice, with guard pages", freed_twice}, {SOME, "CADASTRE_GUARD=edges"}, .errors = NULL},
    {{"freed twice, no quarantine", freed_twice_unkept}, {"CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"freed twice, scribbled, no quarantine", freed_twice_unkept}, {"CADASTRE_SCRIBBLE=1"}, .errors = NULL},
    {{"bounded", bounded}, {SOME}, .errors = ""},
    {{"bounded, all modes", bounded}, {ALL_MODES}, .errors = ""},
    {{"larger than all", larger_than_all}, {"CADASTRE_QUARANTINE=100"}, .errors = ""},
};

MAIN_OF_DEBUG_CASES(cases)
