/*
 * CADASTRE_GUARD=edges: the byte before a LARGE block and the first one behind its last page cannot be touched, nor can
 * a block that was freed; and blocks work as ever, many of them at once.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <fcntl.h>
#include <malloc.h>

enum { SIZE = 200000, PAGES_OF_SIZE = 65536 * 3 }; /* whole pages, however large these are */

static volatile char *block;

static void read_before(void) {
    block = malloc(SIZE);
    check(block[0] == block[0] && block[-1] == 0, "a page before the block was read");
}

static void write_before(void) {
    block = malloc(SIZE);
    block[-1] = 1;
}

static void read_behind(void) {
    block = malloc(PAGES_OF_SIZE);
    check(block[PAGES_OF_SIZE - 1] == 0 && block[PAGES_OF_SIZE] == 0, "a page behind the block was read");
}

static void write_behind(void) {
    block = malloc(PAGES_OF_SIZE);
    block[PAGES_OF_SIZE - 1] = 1;
    block[PAGES_OF_SIZE] = 1;
}

static void use_after_free(void) {
    block = malloc(SIZE);
    block[0] = 1;
    free((void *)block);
    block[0] = 2;
}

/* Whether the kernel may read and write the byte there for us. */
static int is_accessible(char *byte) {
    static int pipes[2] = {-1, -1};
    if (pipes[0] < 0 && pipe(pipes) != 0)
        return 1;
    return write(pipes[1], byte, 1) == 1 && read(pipes[0], byte, 1) == 1;
}

/* Every alignment, and that the guard pages are the block's next neighbours. */
static void all_alignments(void) {
    size_t page = malloc_good_size(MIB + 1) - MIB; /* the one that the library goes by */
    for (size_t alignment = 16; alignment <= 4 * MIB; alignment *= 2) {
        for (size_t size = 65537; size < 2 * MIB; size *= 3) {
            char *aligned = memalign(alignment, size);
            check(aligned && (size_t)aligned % alignment == 0, "%zu bytes at %zu", size, alignment);
            char *end = aligned + (malloc_usable_size(aligned) + page - 1) / page * page;
            check((size_t)(end - aligned) < size + 2 * page, "%zu bytes take up %zu", size, (size_t)(end - aligned));
            memset(aligned, 1, size);
            check(is_accessible(aligned) && is_accessible(end - 1), "the block cannot be used");
            check(!is_accessible(aligned - 1), "%zu bytes at %zu: no guard page before", size, alignment);
            check(!is_accessible(end), "%zu bytes at %zu: no guard page behind", size, alignment);
            free(aligned);
        }
    }
}

static void resized(void) {
    struct rng rng = rng_stream(random_seed(), 1);
    size_t size = 100000;
    unsigned char *bytes = malloc(size);
    pattern_write(bytes, 1000, 3);
    for (int i = 0; i < 300; i++) {
        size = rng_between(&rng, 1000, i % 10 ? 300000 : 8 * MIB);
        bytes = realloc(bytes, size);
        check(bytes && pattern_holds(bytes, 1000, 3), "realloc to %zu lost the contents", size);
        bytes[size - 1] = 1;
        pattern_write(bytes, 1000, 3);
    }
    free(bytes);
    for (int i = 0; i < 50; i++) {
        size = rng_between(&rng, 70000, MIB);
        bytes = calloc(1, size);
        check(bytes[0] == 0 && bytes[size / 2] == 0 && bytes[size - 1] == 0, "calloc is not zero");
        memset(bytes, 1, size);
        free(bytes);
    }
}

/* Each takes a mapping or two, of which the kernel gives some 65,000; when they are freed, all are given back. */
static void many(void) {
    enum { COUNT_OF = 10000 };
    static char *blocks[COUNT_OF];
    size_t before = mappings();
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT_OF; i++) {
            blocks[i] = malloc(70000);
            check(blocks[i], "block %zu: no memory", i);
            blocks[i][0] = 1;
        }
        check(mappings() > before + COUNT_OF, "%zu mappings hold %d guarded blocks", mappings(), COUNT_OF);
        check(cadastre_check() == 0, "the heap is not whole");
        for (size_t i = 0; i < COUNT_OF; i++)
            free(blocks[i]);
        check(mappings() < before + 100, "%zu mappings, %zu before", mappings(), before);
    }
}

/* With more blocks than there are mappings for, blocks are without guards, but there is memory. */
static void more_than_mappings(void) {
    enum { COUNT_OF = 40000 };
    static char *blocks[COUNT_OF];
    size_t count = mem_bound((size_t)COUNT_OF * 8192) / 8192;
    diag("%zu blocks, of which a page each is touched", count);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(66000);
        check(blocks[i], "block %zu: no memory, with %zu mappings", i, mappings());
        blocks[i][0] = 1;
    }
    check(malloc(100) && malloc(10000), "no memory for small blocks");
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    check(cadastre_check() == 0, "the heap is not whole");
}

static void small_ones(void) {
    for (size_t size = 0; size < 70000; size += size / 5 + 1) {
        char *bytes = malloc(size);
        memset(opaque(bytes), 1, size);
        bytes = realloc(bytes, size + 1);
        bytes[size] = 1;
        free(bytes);
    }
}

#define ON "CADASTRE_GUARD=edges"

static const struct debug_case cases[] = {
    {{"read before", read_before}, {ON}, .signal = SIGSEGV, .errors = ""},
    {{"write before", write_before}, {ON}, .signal = SIGSEGV, .errors = ""},
    {{"read behind", read_behind}, {ON}, .signal = SIGSEGV, .errors = ""},
    {{"write behind", write_behind}, {ON}, .signal = SIGSEGV, .errors = ""},
    {{"write behind, MallocGuardEdges", write_behind}, {"MallocGuardEdges=1"}, .signal = SIGSEGV, .errors = ""},
    {{"use after free", use_after_free}, {ON}, .signal = SIGSEGV, .errors = ""},
    {{"all alignments", all_alignments}, {ON}, .errors = ""},
    {{"all alignments, with canaries", all_alignments}, {ON, "CADASTRE_CANARIES=1"}, .errors = ""},
    {{"resized", resized}, {ON}, .errors = ""},
    {{"resized, all modes", resized}, {ALL_MODES}, .errors = ""},
    {{"many", many}, {ON}, .errors = ""},
    {{"more than mappings", more_than_mappings}, {ON}, .errors = ""},
    {{"small ones", small_ones}, {ON}, .errors = ""},
};

MAIN_OF_DEBUG_CASES(cases)
