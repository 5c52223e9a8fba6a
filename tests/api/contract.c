/*
 * The standard names' corner cases: what each returns, what errno says, and that a refused request changes nothing.
 * Every check runs on the plain names and again on cadastre_*.
 */
#include "cadastre.h"
#include "misuse/child.h"
#include "tap.h"

#include <errno.h>
#include <malloc.h>

/* An errno that no function sets. */
enum { UNTOUCHED = 4321 };

void *pvalloc(size_t); /* which musl does not declare */

struct names {
    const char *prefix;
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    size_t (*malloc_usable_size)(void *);
    void (*free_sized)(void *, size_t);
    void (*free_aligned_sized)(void *, size_t, size_t);
};

static const struct names families[] = {
    {"", malloc, free, calloc, realloc, reallocarray, memalign, aligned_alloc, posix_memalign, valloc, pvalloc,
     malloc_usable_size, free_sized, free_aligned_sized},
    {"cadastre_", cadastre_malloc, cadastre_free, cadastre_calloc, cadastre_realloc, cadastre_reallocarray,
     cadastre_memalign, cadastre_aligned_alloc, cadastre_posix_memalign, cadastre_valloc, cadastre_pvalloc,
     cadastre_malloc_usable_size, cadastre_free_sized, cadastre_free_aligned_sized}};

/* The names under test. */
static const struct names *n;

/* NULL, and errno as said. */
#define refuses(call, error)                                                                                           \
    (errno = UNTOUCHED, (call) == NULL && errno == (error) ? 1 : (diag("%s: errno %d", #call, errno), 0))

static void zero_sizes(void) {
    errno = UNTOUCHED;
    void *blocks[] = {n->malloc(0),    n->malloc(0),        n->calloc(0, 8),    n->calloc(8, 0),
                      n->calloc(0, 0), n->realloc(NULL, 0), n->memalign(64, 0), n->valloc(0)};
    int unique = 1;
    for (size_t i = 0; i < COUNT(blocks); i++)
        for (size_t j = 0; j <= i; j++)
            unique &= blocks[i] && (i == j || blocks[i] != blocks[j]);
    ok(unique, "%smalloc(0), calloc(0, n), realloc(NULL, 0) ...: unique pointers", n->prefix);
    for (size_t i = 0; i < COUNT(blocks); i++)
        n->free(blocks[i]);
    ok(errno == UNTOUCHED, "%sfree takes them all", n->prefix);

    void *block = n->malloc(100);
    errno = UNTOUCHED;
    ok(n->realloc(block, 0) == NULL && errno == UNTOUCHED, "%srealloc(p, 0) returns NULL, errno alone", n->prefix);
    /* The block is free now: the same class gives it out again before the thread cache can be empty. */
    void *again[1000];
    int seen = 0;
    for (size_t i = 0; i < COUNT(again); i++)
        seen |= (again[i] = n->malloc(100)) == block;
    for (size_t i = 0; i < COUNT(again); i++)
        n->free(again[i]);
    ok(seen, "%srealloc(p, 0) frees p", n->prefix);
    n->free(NULL);
    n->free_sized(NULL, 8);
    n->free_aligned_sized(NULL, 64, 8);
    ok(errno == UNTOUCHED, "%sfree(NULL) does nothing", n->prefix);
}

static void sizes_too_large(void) {
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 4095, SIZE_MAX / 2 + 2};
    int refused = 1;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t size = opaque_size(sizes[i]);
        refused &= refuses(n->malloc(size), ENOMEM);
        refused &= refuses(n->calloc(1, size), ENOMEM);
        refused &= refuses(n->calloc(size, 1), ENOMEM);
        refused &= refuses(n->realloc(NULL, size), ENOMEM);
        refused &= refuses(n->reallocarray(NULL, size, 1), ENOMEM);
        refused &= refuses(n->memalign(64, size), ENOMEM);
        refused &= refuses(n->memalign(1 << 20, size), ENOMEM);
        refused &= refuses(n->aligned_alloc(64, size), ENOMEM);
        refused &= refuses(n->valloc(size), ENOMEM);
        refused &= refuses(n->pvalloc(size), ENOMEM);
    }
    ok(refused, "%s*: sizes above PTRDIFF_MAX: NULL, ENOMEM", n->prefix);
    ok(refuses(n->malloc(opaque_size(PTRDIFF_MAX)), ENOMEM), "%smalloc(PTRDIFF_MAX): no machine has it", n->prefix);
    ok(refuses(n->pvalloc(opaque_size(PTRDIFF_MAX)), ENOMEM), "%spvalloc: rounding up past PTRDIFF_MAX", n->prefix);
}

static void products_overflow(void) {
    static const struct {
        size_t count, size;
    } products[] = {{SIZE_MAX, 2},     {2, SIZE_MAX},          {SIZE_MAX, SIZE_MAX}, {(size_t)1 << 32, (size_t)1 << 32},
                    {SIZE_MAX / 2, 3}, {SIZE_MAX / 16 + 2, 16} /* wraps round to a small number */};
    char *block = n->malloc(64);
    memset(block, 7, 64);
    int refused = 1;
    for (size_t i = 0; i < COUNT(products); i++) {
        size_t count = opaque_size(products[i].count), size = products[i].size;
        refused &= refuses(n->calloc(count, size), ENOMEM);
        refused &= refuses(n->reallocarray(NULL, count, size), ENOMEM);
        refused &= refuses(n->reallocarray(block, count, size), ENOMEM);
    }
    ok(refused, "%scalloc, reallocarray: a product that overflows: NULL, ENOMEM", n->prefix);
    int kept = n->malloc_usable_size(block) >= 64;
    for (size_t i = 0; i < 64; i++)
        kept &= block[i] == 7;
    ok(kept, "%sreallocarray: the old block is untouched", n->prefix);
    errno = UNTOUCHED;
    block = n->reallocarray(block, 100, 30);
    ok(block && errno == UNTOUCHED && block[63] == 7, "%sreallocarray: a product that fits", n->prefix);
    n->free(block);
}

static void refused_realloc_keeps(void) {
    static const size_t sizes[] = {1, 100, 1024, 5000, 65536, 70000, 3 << 20};
    int kept = 1;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *block = n->malloc(sizes[i]);
        memset(block, 0xa5, sizes[i]);
        kept &= refuses(n->realloc(block, opaque_size(SIZE_MAX)), ENOMEM);
        kept &= refuses(n->realloc(block, opaque_size(PTRDIFF_MAX)), ENOMEM);
        for (size_t j = 0; j < sizes[i]; j++)
            kept &= block[j] == 0xa5;
        kept &= n->malloc_usable_size(block) >= sizes[i];
        n->free(block);
    }
    ok(kept, "%srealloc that is refused: NULL, ENOMEM, the old block untouched", n->prefix);
}

static void alignments_that_are_wrong(void) {
    static const size_t no_powers[] = {3, 6, 24, 48, 100, 4097, ((size_t)1 << 62) + 8, SIZE_MAX};
    int refused = 1, codes = 1;
    for (size_t i = 0; i < COUNT(no_powers); i++) {
        size_t alignment = opaque_size(no_powers[i]);
        refused &= refuses(n->aligned_alloc(alignment, 100), EINVAL);
        void *result = &result;
        errno = UNTOUCHED;
        codes &= n->posix_memalign(&result, alignment, 100) == EINVAL && result == &result && errno == UNTOUCHED;
    }
    ok(refused, "%saligned_alloc: no power of two: NULL, EINVAL", n->prefix);
    ok(codes, "%sposix_memalign: no power of two: returns EINVAL, *memptr and errno alone", n->prefix);
    ok(refuses(n->aligned_alloc(0, 100), EINVAL), "%saligned_alloc(0, n): EINVAL", n->prefix);

    static const size_t too_small[] = {0, 1, 2, 4};
    codes = 1;
    for (size_t i = 0; i < COUNT(too_small); i++) {
        void *result = &result;
        errno = UNTOUCHED;
        codes &= n->posix_memalign(&result, too_small[i], 100) == EINVAL && result == &result && errno == UNTOUCHED;
    }
    ok(codes, "%sposix_memalign: no multiple of sizeof(void *): EINVAL", n->prefix);

    /* These are powers of two, so the request is well-formed; nothing can satisfy it. */
    refused = 1, codes = 1;
    for (int shift = 48; shift <= 63; shift++) {
        size_t alignment = opaque_size((size_t)1 << shift);
        refused &= refuses(n->aligned_alloc(alignment, 100), ENOMEM);
        refused &= refuses(n->memalign(alignment, 100), ENOMEM);
        void *result = &result;
        errno = UNTOUCHED;
        codes &= n->posix_memalign(&result, alignment, 100) == ENOMEM && result == &result && errno == UNTOUCHED;
    }
    ok(refused, "%saligned_alloc, memalign: alignment too large to satisfy: NULL, ENOMEM", n->prefix);
    ok(codes, "%sposix_memalign: alignment too large, or size: returns ENOMEM, *memptr and errno alone", n->prefix);
    void *result = &result;
    errno = UNTOUCHED;
    ok(n->posix_memalign(&result, 64, opaque_size(SIZE_MAX)) == ENOMEM && result == &result && errno == UNTOUCHED,
       "%sposix_memalign: size too large: returns ENOMEM, *memptr and errno alone", n->prefix);
}

/* glibc, memalign(3): above the greatest power of two there is none to round it up to. */
static void alignments_beyond(void) {
    const size_t power = opaque_size(SIZE_MAX / 2 + 1);
    ok(refuses(n->memalign(power + 1, 100), EINVAL) & refuses(n->memalign(power + 1, 0), EINVAL) &
           refuses(n->memalign(opaque_size(SIZE_MAX), 4096), EINVAL) &
           refuses(n->memalign(opaque_size(SIZE_MAX), opaque_size(SIZE_MAX)), EINVAL),
       "%smemalign: alignment above all powers of two: NULL, EINVAL", n->prefix);
}

static void alignments_rounded_up(void) {
    static const struct {
        size_t given, got;
    } pairs[] = {{0, 16}, {1, 16}, {3, 16}, {17, 32}, {24, 32}, {100, 128}, {129, 256}, {4097, 8192}, {70000, 131072}};
    int rounded = 1;
    for (size_t i = 0; i < COUNT(pairs); i++) {
        void *blocks[4];
        for (size_t j = 0; j < COUNT(blocks); j++) {
            errno = UNTOUCHED;
            blocks[j] = n->memalign(pairs[i].given, 100);
            rounded &= blocks[j] && (uintptr_t)blocks[j] % pairs[i].got == 0 && errno == UNTOUCHED;
        }
        for (size_t j = 0; j < COUNT(blocks); j++)
            n->free(blocks[j]);
    }
    ok(rounded, "%smemalign rounds an alignment up to a power of two", n->prefix);

    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *v = n->valloc(1), *p = n->pvalloc(1), *p0 = n->pvalloc(0), *p2 = n->pvalloc(page + 1);
    ok((uintptr_t)v % page == 0 && (uintptr_t)p % page == 0, "%svalloc, pvalloc: on a page", n->prefix);
    ok(p0 && n->malloc_usable_size(p) >= page && n->malloc_usable_size(p2) >= 2 * page, "%spvalloc: whole pages",
       n->prefix);
    n->free(v), n->free(p), n->free(p0), n->free(p2);
}

/* errno survives success and every kind of free. */
static void errno_survives(void) {
    int alone = 1;
    for (size_t size = 0; size <= 32 << 20; size = size * 2 + 1) {
        errno = UNTOUCHED;
        void *blocks[] = {n->malloc(size),    n->calloc(1, size),         n->memalign(128, size),
                          n->valloc(size),    n->aligned_alloc(64, size), n->realloc(NULL, size),
                          n->malloc(size / 2)};
        blocks[6] = n->realloc(blocks[6], size + 1);
        blocks[6] = n->realloc(blocks[6], size / 3 + 1);
        void *result = NULL;
        alone &= n->posix_memalign(&result, 64, size) == 0 && errno == UNTOUCHED;
        n->malloc_usable_size(result);
        alone &= errno == UNTOUCHED;
        errno = 1 << 20;
        n->free_aligned_sized(result, 64, size);
        n->free_sized(blocks[0], size);
        for (size_t i = 1; i < COUNT(blocks); i++)
            n->free(blocks[i]);
        alone &= errno == 1 << 20;
        if (!alone)
            diag("size %zu: errno %d", size, errno);
    }
    ok(alone, "%s*: errno unchanged by what succeeds and by every free", n->prefix);
}

/* Thousands of frees cross every slow path there is: flushes, purges, spans given back to the kernel. */
static void errno_survives_slow_paths(void) {
    static void *blocks[30000];
    static const size_t sizes[] = {16, 700, 3000};
    int alone = 1;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        for (size_t i = 0; i < COUNT(blocks); i++)
            memset(blocks[i] = n->malloc(sizes[s]), 1, sizes[s]);
        errno = UNTOUCHED;
        for (size_t i = 0; i < COUNT(blocks); i++)
            n->free(blocks[i]);
        alone &= errno == UNTOUCHED;
    }
    for (size_t i = 0; i < 1000; i++)
        blocks[i] = n->malloc(200000);
    errno = UNTOUCHED;
    for (size_t i = 0; i < 1000; i++)
        n->free(blocks[i]);
    alone &= errno == UNTOUCHED;
    ok(alone, "%sfree: errno unchanged on slow paths", n->prefix);
}

static void sized_frees_that_fit(void) {
    static const size_t sizes[] = {0, 1, 42, 64, 1000, 5000, 65536, 65537, 1 << 20};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        n->free_sized(n->malloc(sizes[i]), sizes[i]);
        n->free_sized(n->calloc(1, sizes[i]), sizes[i]);
        n->free_sized(n->realloc(n->malloc(10), sizes[i] + 1), sizes[i] + 1);
        void *block = n->malloc(sizes[i]);
        n->free_sized(block, n->malloc_usable_size(block)); /* the whole capacity is the caller's to name */
        for (size_t alignment = 1; alignment <= 1 << 16; alignment *= 4)
            n->free_aligned_sized(n->aligned_alloc(alignment, sizes[i]), alignment, sizes[i]);
    }
    check(n->malloc_usable_size(NULL) == 0, "malloc_usable_size(NULL) is 0");
}

/* In a process of its own, whose standard error is known: nothing above is a misuse, so nothing is reported. */
static void silently(void) {
    for (n = families; n < families + COUNT(families); n++)
        sized_frees_that_fit();
    expect_silence();
}

static const struct test_case cases[] = {{"free_sized, free_aligned_sized with what fits: no report", silently}};

int main(int argc, char **argv) {
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (n = families; n < families + COUNT(families); n++) {
        zero_sizes();
        sizes_too_large();
        products_overflow();
        refused_realloc_keeps();
        alignments_that_are_wrong();
        alignments_beyond();
        alignments_rounded_up();
        errno_survives();
        errno_survives_slow_paths();
    }
    ok_case(cases[0].name, NULL, NULL);
    return tap_done();
}
