/*
 * What blocks are filled with: CADASTRE_SCRIBBLE (0xAA when taken, 0x55 when freed) and its aliases; CADASTRE_PERTURB
 * and MALLOC_PERTURB_ as mallopt(3) tells of M_PERTURB: the complement of the value when taken, "other than allocations
 * via calloc(3)", and the value when freed.
 */
#include "debug/cases.h"

#include <malloc.h>
#include <stdint.h>

static const size_t some_sizes[] = {0,    1,    15,   16,    17,    100,   256,   300,    1000,
                                    1024, 1025, 5000, 32000, 65536, 65537, 70000, 100000, 300000};

static int is_filled(const void *block, size_t from, size_t to, int byte) {
    const unsigned char *bytes = opaque(block);
    while (from < to && bytes[from] == byte)
        from++;
    return from == to;
}

/* The next block of that size has been used, if it is not a new one. */
static void leave_dirty(size_t size) {
    void *block = malloc(size);
    memset(opaque(block), 0xee, size);
    free(block);
}

static void blocks_are(int taken, int freed, size_t size) {
    static const size_t alignments[] = {16, 64, 4096, 65536};
    leave_dirty(size);
    unsigned char *block = malloc(size);
    check(block && is_filled(block, 0, size, taken), "malloc(%zu) is not all 0x%x", size, (unsigned)taken);
    memset(block, 1, size);
    free(block);
    check(is_filled(block, 0, size, freed), "a freed block of %zu bytes is not all 0x%x", size, (unsigned)freed);

    leave_dirty(size);
    block = calloc(1, size);
    check(block && is_filled(block, 0, size, 0), "calloc(%zu) is not zero", size);
    free(block);
    block = malloc(size);
    memset(block, 1, size);
    block = realloc(block, size + 5000);
    check(is_filled(block, 0, size, 1), "realloc from %zu bytes lost some", size);
    check(is_filled(block, size, size + 5000, taken), "what %zu bytes grew by is not 0x%x", size, (unsigned)taken);
    unsigned char *shrunk = realloc(block, size / 2 + 1);
    check(is_filled(shrunk, 0, size < size / 2 + 1 ? size : size / 2 + 1, 1), "shrinking to %zu lost some", size / 2);
    if (shrunk != block)
        check(is_filled(block, 0, size + 5000, freed), "what realloc left is not 0x%x", (unsigned)freed);
    free(shrunk);

    for (size_t i = 0; i < COUNT(alignments); i++) {
        void *aligned = NULL;
        check(posix_memalign(&aligned, alignments[i], size) == 0, "no memory");
        check(is_filled(aligned, 0, size, taken), "%zu aligned bytes are not 0x%x", size, (unsigned)taken);
        free(aligned);
        check(is_filled(aligned, 0, size, freed), "%zu freed aligned bytes are not 0x%x", size, (unsigned)freed);
    }
}

static void all_blocks_are(int taken, int freed) {
    for (size_t size = 0; size <= 300; size++)
        blocks_are(taken, freed, size);
    for (size_t i = 0; i < COUNT(some_sizes); i++)
        blocks_are(taken, freed, some_sizes[i]);
}

static void scribbled(void) {
    all_blocks_are(0xaa, 0x55);
}

static void perturbed(void) {
    all_blocks_are(0x5a, 0xa5);
}

static void perturbed_by_255(void) {
    all_blocks_are(0x00, 0xff);
}

/* Nothing is filled unless it is asked for. */
static void as_they_were(void) {
    for (size_t i = 1; i < COUNT(some_sizes); i++) {
        unsigned char *block = malloc(some_sizes[i]);
        memset(opaque(block), 0xee, some_sizes[i]);
        free(block);
        check(is_filled(block, 0, some_sizes[i], 0xee), "%zu freed bytes were filled", some_sizes[i]);
    }
}

/* A program may use all that is usable, whatever it has asked for. */
static void usable_bytes_are_kept(void) {
    for (size_t i = 1; i < COUNT(some_sizes); i++) {
        unsigned char *block = malloc(some_sizes[i]);
        size_t before = malloc_usable_size(block);
        memset(opaque(block), 0xee, before);
        block = realloc(block, some_sizes[i] - some_sizes[i] / 8);
        size_t after = malloc_usable_size(block);
        check(is_filled(block, 0, before < after ? before : after, 0xee), "realloc from %zu bytes lost some of %zu",
              some_sizes[i], before);
        free(block);
    }
}

/* In the quarantine freed bytes can be read, whatever becomes of the slab. */
#define KEPT "CADASTRE_QUARANTINE=64M"

static const struct debug_case cases[] = {
    {{"scribble", scribbled}, {"CADASTRE_SCRIBBLE=1", KEPT}, .errors = ""},
    {{"scribble, FtMallocScribble", scribbled}, {"FtMallocScribble=", KEPT}, .errors = ""},
    {{"scribble, MallocScribble", scribbled}, {"MallocScribble=YES", KEPT}, .errors = ""},
    {{"scribble and canaries", scribbled}, {"CADASTRE_SCRIBBLE=1", "CADASTRE_CANARIES=1", KEPT}, .errors = ""},
    {{"scribble and guard pages", scribbled}, {"CADASTRE_SCRIBBLE=1", "CADASTRE_GUARD=edges", KEPT}, .errors = ""},
    {{"perturb", perturbed}, {"CADASTRE_PERTURB=165", KEPT}, .errors = ""},
    {{"perturb, hexadecimal", perturbed}, {"CADASTRE_PERTURB=0xA5", KEPT}, .errors = ""},
    {{"perturb, MALLOC_PERTURB_", perturbed}, {"MALLOC_PERTURB_=165", KEPT}, .errors = ""},
    {{"perturb, 255", perturbed_by_255}, {"CADASTRE_PERTURB=255", KEPT}, .errors = ""},
    {{"perturb, 0", as_they_were}, {"CADASTRE_PERTURB=0", KEPT}, .errors = ""},
    {{"realloc keeps what is usable", usable_bytes_are_kept}, {"CADASTRE_SCRIBBLE=1"}, .errors = ""},
    {{"neither", as_they_were}, {KEPT}, .errors = ""},
};

MAIN_OF_DEBUG_CASES(cases)
