/*
 * Who made the call that is reported, who took the block and who gave it back: after a report stand the thread and the
 * calls that led there, of which the first is the program's, whichever function it called.
 */
#include "cadastre.h"
#include "debug/cases.h"

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>

enum { SIZE = 100 };

/* Not inlined, and none is a tail call: each has a frame, in this program. */
#define TAKES(name, call)                                                                                              \
    static __attribute__((noinline)) void *name(void) {                                                                \
        void *block = call;                                                                                            \
        __asm__ volatile("" : : "r"(block) : "memory");                                                                \
        return block;                                                                                                  \
    }

static void *aligned_by_posix(void) {
    void *block = NULL;
    check(posix_memalign(&block, 64, SIZE) == 0, "no memory");
    return block;
}

TAKES(by_malloc, malloc(SIZE))
TAKES(by_calloc, calloc(1, SIZE))
TAKES(by_realloc, realloc(malloc(5), SIZE))
TAKES(by_reallocarray, reallocarray(NULL, 1, SIZE))
TAKES(by_aligned_alloc, aligned_alloc(64, SIZE))
TAKES(by_posix_memalign, aligned_by_posix())
TAKES(by_memalign, memalign(64, SIZE))
TAKES(by_valloc, valloc(SIZE))
TAKES(by_cadastre_malloc, cadastre_malloc(SIZE))

static void *(*const takers[])(void) = {by_malloc,         by_calloc,   by_realloc, by_reallocarray,   by_aligned_alloc,
                                        by_posix_memalign, by_memalign, by_valloc,  by_cadastre_malloc};

#define GIVES(name, call)                                                                                              \
    static __attribute__((noinline)) void name(void *block) {                                                          \
        call;                                                                                                          \
        __asm__ volatile("" : : : "memory");                                                                           \
    }

GIVES(gives_to_free, free(block))
GIVES(gives_to_free_sized, free_sized(block, SIZE))
GIVES(gives_to_free_aligned_sized, free_aligned_sized(block, 1, SIZE))
GIVES(gives_to_realloc, free(realloc(block, 5000)))
GIVES(gives_to_realloc_0, check(!realloc(block, 0), "a block of no bytes"))

static void (*const givers[])(void *) = {gives_to_free, gives_to_free_sized, gives_to_free_aligned_sized,
                                         gives_to_realloc, gives_to_realloc_0};

static void takers_are_named(void) {
    for (size_t i = 0; i < COUNT(takers); i++) {
        char first[512] = "";
        unsigned char *block = opaque(takers[i]());
        unsigned char before = block[SIZE];
        block[SIZE]++;
        check(cadastre_check() == 1, "way %zu of taking: the fault is not found", i);
        expect("cadastre_check(0x@): written past the end of the block: byte 100 is 0x@, block of 100 bytes, arena #");
        size_t calls = expect_who("taken", this_thread(), first);
        check(calls > 3 && matches(first, "case+0x@"), "way %zu of taking: %zu calls, from %s", i, calls, first);
        block[SIZE] = before;
        free(block);
    }
    expect_no_more();
}

static void givers_are_named(void) {
    for (size_t i = 0; i < COUNT(givers); i++) {
        char first[512] = "";
        void *block = opaque(malloc(SIZE));
        givers[i](block);
        free(block);
        expect("free(0x@): double free: block of 100 bytes, arena #");
        expect_who("called", this_thread(), first);
        check(matches(first, "case+0x@"), "way %zu of giving: called by %s", i, first);
        size_t calls = expect_who("given back", this_thread(), first);
        check(calls > 3 && matches(first, "case+0x@"), "way %zu of giving: %zu calls, from %s", i, calls, first);
    }
    expect_no_more();
}

/* The thread that did it, not the one that is told. */
static pid_t other_thread;
static void *taken_elsewhere, *given_elsewhere;

static void *elsewhere(void *argument) {
    other_thread = this_thread();
    taken_elsewhere = malloc(SIZE);
    free(given_elsewhere);
    return argument;
}

static void other_threads_are_named(void) {
    pthread_t thread;
    given_elsewhere = opaque(malloc(SIZE));
    check(pthread_create(&thread, NULL, elsewhere, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    free(opaque(given_elsewhere));
    expect("free(0x@): double free: *");
    expect_who("called", this_thread(), NULL);
    expect_who("given back", other_thread, NULL);
    ((unsigned char *)opaque(taken_elsewhere))[SIZE]++;
    free(opaque(taken_elsewhere));
    expect("free(0x@): written past the end of the block: *");
    expect_who("called", this_thread(), NULL);
    expect_who("taken", other_thread, NULL);
    expect_no_more();
}

/* Of every kind: a report that names a call to blame names its place; and the block that it is about, who took it. */
#define WRONG(name, call)                                                                                              \
    static __attribute__((noinline)) void name(char *block) {                                                          \
        call;                                                                                                          \
        __asm__ volatile("" : : : "memory");                                                                           \
    }

static char foreign[64];
WRONG(frees_foreign, free(opaque(foreign + (block - block))))
WRONG(frees_interior, free(opaque(block + 16)))
WRONG(resizes_interior, check(!realloc(opaque(block + 16), SIZE), "an interior pointer was resized"))
WRONG(asks_interior, check(malloc_usable_size(opaque(block + 16)) == 0, "an interior pointer is a block"))
WRONG(frees_sized, free_sized(opaque(block), SIZE - 1))
WRONG(frees_aligned, free_aligned_sized(opaque(block), 1 << 20, SIZE))
WRONG(frees_interior_sized, free_sized(opaque(block + 16), SIZE))

#define INTERIOR "not the start of a block: 16 bytes into a live block of # bytes at 0x@, *"

static const struct {
    void (*call)(char *block);
    const char *report;
    int has_block;
} wrongs[] = {
    {frees_foreign, "free(0x@): foreign pointer: *", 0},
    {frees_interior, "free(0x@): " INTERIOR, 1},
    {resizes_interior, "realloc(0x@): " INTERIOR, 1},
    {asks_interior, "malloc_usable_size(0x@): " INTERIOR, 1},
    {frees_interior_sized, "free_sized(0x@): " INTERIOR, 1},
    {frees_sized, "free_sized(0x@): wrong size: 99 given, block of # bytes (capacity #), *", 1},
    {frees_aligned, "free_aligned_sized(0x@): wrong *: # given, block of # bytes (capacity #), *", 1},
};

static void all_kinds(void) {
    static const size_t sizes[] = {SIZE, 5000, 200000};
    for (size_t i = 0; i < COUNT(wrongs) * COUNT(sizes); i++) {
        char first[512] = "";
        char *neighbour = opaque(malloc(sizes[i % COUNT(sizes)]));
        char *block = opaque(malloc(sizes[i % COUNT(sizes)]));
        wrongs[i / COUNT(sizes)].call(block);
        expect("%s", wrongs[i / COUNT(sizes)].report);
        expect_who("called", this_thread(), first);
        check(matches(first, "case+0x@"), "call %zu is by %s", i, first);
        if (wrongs[i / COUNT(sizes)].has_block) {
            expect_who("taken", this_thread(), first);
            check(matches(first, "case+0x@"), "block %zu is taken by %s", i, first);
        }
        expect_no_more();
        free(neighbour);
    }
}

static size_t calls_of(size_t depth) {
    unsigned char *block = depth > 0 ? NULL : opaque(malloc(SIZE));
    if (depth > 0) {
        size_t calls = calls_of(depth - 1);
        __asm__ volatile("" : "+r"(calls) : : "memory");
        return calls;
    }
    block[SIZE]++;
    free(block);
    expect("free(0x@): written past the end of the block: *");
    expect_who("called", this_thread(), NULL);
    return expect_who("taken", this_thread(), NULL);
}

static void as_deep_as_asked(void) {
    const char *asked = getenv("CADASTRE_STACKS");
    size_t depth = strtoul(asked, NULL, 10);
    size_t calls = calls_of(100);
    check(calls == depth, "%zu calls, not %zu", calls, depth);
    expect_no_more();
}

/* The modes that cost least name one call, of who took the block or gave it back. */
static void one_call(void) {
    char first[512] = "";
    void *block = opaque(malloc(SIZE));
    gives_to_free(block);
    free(block);
    expect("free(0x@): double free: block of 100 bytes, arena #");
    check(expect_who("called", this_thread(), first) > 3 && matches(first, "case+0x@"), "called by %s", first);
    check(expect_who("given back", this_thread(), first) == 1 && matches(first, "case+0x@"), "given by %s", first);
    expect_no_more();
}

static void in_child(size_t unused) {
    (void)unused;
    errors_skip();
    void *block = opaque(malloc(SIZE));
    gives_to_free(block);
    free(block);
    expect("free(0x@): double free: block of 100 bytes, arena #");
    expect_who("called", this_thread(), NULL);
    expect_who("given back", this_thread(), NULL);
}

/* A child of fork is another thread than the one that it was. */
static void children_are_named(void) {
    free(malloc(SIZE));
    check(forked(in_child, 0) == 0, "the child took itself for its parent");
}

#define ON "CADASTRE_CANARIES=1", "CADASTRE_QUARANTINE=1M"

static const struct debug_case cases[] = {
    {{"takers are named", takers_are_named}, {ON, "CADASTRE_STACKS=16"}, .errors = NULL},
    {{"takers are named, all modes", takers_are_named}, {ALL_MODES}, .errors = NULL},
    {{"givers are named", givers_are_named}, {ON, "CADASTRE_STACKS=16"}, .errors = NULL},
    {{"givers are named, all modes", givers_are_named}, {ALL_MODES}, .errors = NULL},
    {{"other threads are named", other_threads_are_named}, {ON, "CADASTRE_STACKS=16"}, .errors = NULL},
    {{"other threads are named, no stacks", other_threads_are_named}, {ON}, .errors = NULL},
    {{"children are named", children_are_named}, {ON}, .errors = NULL},
    {{"one call, quarantine", one_call}, {"CADASTRE_QUARANTINE=1M"}, .errors = NULL},
    {{"one call, history", one_call}, {"CADASTRE_HISTORY=100"}, .errors = NULL},
    {{"all kinds", all_kinds}, {ON}, .errors = NULL},
    {{"all kinds, all modes", all_kinds}, {ALL_MODES}, .errors = NULL},
    {{"as deep as asked, 10", as_deep_as_asked}, {ON, "CADASTRE_STACKS=10"}, .errors = NULL},
    {{"as deep as asked, 64", as_deep_as_asked}, {ON, "CADASTRE_STACKS=64"}, .errors = NULL},
};

MAIN_OF_DEBUG_CASES(cases)
