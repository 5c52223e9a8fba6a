/*
 * realloc and reallocarray of what is no live block: NULL, EINVAL and one line; the heap as it was. Each case is a
 * process of its own.
 */
#include "cadastre.h"
#include "misuse/guard.h"

#include <malloc.h>

static void *(*resize)(void *, size_t);

static void *resize_array(void *block, size_t size) {
    return reallocarray(block, 1, size);
}

/* To each kind of size: none may look at the contents. */
static void refused(void *pointer, const char *report) {
    static const size_t sizes[] = {10, 500, 5000, 200000};
    char pattern[256];
    snprintf(pattern, sizeof pattern, "realloc*(%p): %s", pointer, report);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        errno = 0;
        void *result = resize(opaque(pointer), sizes[i]);
        check(result == NULL && errno == EINVAL, "%p, errno %d", result, errno);
        expect_report("%s", pattern);
    }
}

static void of_freed(size_t size) {
    guard_set();
    void *block = malloc(size);
    size_t class = malloc_usable_size(block);
    char report[128];
    snprintf(report, sizeof report, "use of a freed block: block of class %zu bytes, arena #", class);
    free(block);
    refused(block, report);
    guard_check();
}

static void freed_tiny(void) {
    of_freed(42);
}

static void freed_small(void) {
    of_freed(5000);
}

static void freed_large(void) {
    guard_set();
    void *block = malloc(40 << 20); /* too large to be retained: it lies in no mapping of ours now */
    free(block);
    refused(block, "*");
    guard_check();
}

static void freed_by_realloc_to_nothing(void) {
    guard_set();
    void *block = malloc(100);
    check(resize(block, 0) == NULL, "realloc(p, 0) is not NULL");
    refused(block, "use of a freed block: block of class # bytes, arena #");
    guard_check();
}

/* The old address of a block that moved is free. */
static void moved_away(void) {
    guard_set();
    void *old = malloc(100), *block = resize(old, 5000);
    check(block && block != old, "a TINY block cannot grow to 5000 bytes in place");
    guard_live();
    refused(old, "use of a freed block: block of class # bytes, arena #");
    free(block);
    guard_live();
    guard_check();
}

static void interior_of(size_t size, size_t offset, const char *place) {
    guard_set();
    char *block = malloc(size), report[256];
    pattern_write(block, size, 5);
    guard_live();
    snprintf(report, sizeof report, "not the start of a block: %zu bytes into a live block of %zu bytes at %p, %s",
             offset, size, (void *)block, place);
    refused(block + offset, report);
    check(pattern_holds(block, size, 5), "the block itself changed");
    guard_check();
    free(block);
    expect_silence();
}

static void interior_tiny(void) {
    interior_of(64, 32, "arena #");
}

static void interior_small(void) {
    interior_of(20000, 4096, "arena #");
}

static void interior_large(void) {
    interior_of(500000, 65536, "LARGE");
}

static char static_bytes[64];

static void foreign(void) {
    char bytes[64] = "on the stack";
    guard_set();
    refused(bytes, "foreign pointer: lies in @-@ rw-p [stack]");
    refused(static_bytes, "foreign pointer: lies in @-@ rw-p*");
    refused((void *)16, "foreign pointer: lies in no mapping");
    guard_check();
}

/* To nothing it would be a free: it frees nothing. */
static void to_nothing(void) {
    guard_set();
    void *block = malloc(100);
    free(block);
    errno = 0;
    check(resize(opaque(block), 0) == NULL && errno == EINVAL, "errno %d", errno);
    expect_report("realloc*(%p): *: block of class # bytes, arena #", block);
    guard_check();
}

static const struct test_case cases[] = {
    {"of a freed TINY block", freed_tiny},
    {"of a freed SMALL block", freed_small},
    {"of a freed LARGE block", freed_large},
    {"of a block freed by realloc(p, 0)", freed_by_realloc_to_nothing},
    {"of a block that has moved", moved_away},
    {"of the inside of a TINY block", interior_tiny},
    {"of the inside of a SMALL block", interior_small},
    {"of the inside of a LARGE block", interior_large},
    {"of foreign memory", foreign},
    {"of a freed block to size 0", to_nothing},
};

int main(int argc, char **argv) {
    resize = getenv("RESIZE_ARRAY") ? resize_array : realloc;
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    static const char *const variants[][2] = {{NULL}, {"RESIZE_ARRAY=1", NULL}};
    for (size_t v = 0; v < COUNT(variants); v++) {
        diag("%s", v ? "reallocarray" : "realloc");
        for (size_t i = 0; i < COUNT(cases); i++)
            ok_case(cases[i].name, variants[v], NULL);
    }
    return tap_done();
}
