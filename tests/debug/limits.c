/*
 * Under RLIMIT_AS of 64 MiB, with each mode and all: what cannot be had is NULL with ENOMEM, a smaller size never
 * fails, contents hold; what the quarantine holds back is given when there is nothing else; and freed memory can be had
 * again.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <sys/resource.h>

static void limit(void) {
    const struct rlimit bytes = {64 * MIB, 64 * MIB};
    setrlimit(RLIMIT_AS, &bytes);
}

enum { BLOCKS = 200000 };

static unsigned char *blocks[BLOCKS];

static void exhausted(void) {
    static const size_t sizes[] = {16, 500, 5000, 60000, 100000, 3000000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t count = 0;
        size_t size = sizes[i];
        errno = 0;
        while (count < BLOCKS && (blocks[count] = malloc(size)))
            pattern_write(blocks[count++], size < 100 ? size : 100, i);
        check(count == BLOCKS || errno == ENOMEM, "%zu bytes: NULL with errno %d", size, errno);
        check(count * size > 2 * MIB, "%zu bytes: only %zu blocks", size, count);
        check(!realloc(blocks[0], 64 * MIB) && errno == ENOMEM, "realloc to all there is");
        for (size_t j = 0; j < count; j++)
            check(pattern_holds(blocks[j], size < 100 ? size : 100, i), "a block of %zu bytes changed", size);
        for (size_t j = 0; j < count; j += 7) {
            errno = 0;
            blocks[j] = realloc(blocks[j], size / 2 + 1);
            check(blocks[j] && errno == 0, "%zu bytes: made smaller, errno %d", size, errno);
        }
        check(cadastre_check() == 0, "%zu bytes: the heap is not whole", size);
        while (count > 0)
            free(blocks[--count]);
    }
    check(cadastre_check() == 0, "the heap is not whole");
}

/* All that is freed is enough for what is taken next. */
static void recovers(void) {
    for (size_t i = 0; i < 300; i++) {
        size_t size = i % 2 ? 3 * MIB : 100000;
        void *block = malloc(size);
        check(block, "block %zu, of %zu bytes: no memory, and all is free", i, size);
        free(block);
    }
    for (size_t i = 0; i < 20000; i++) {
        void *block = malloc(20000);
        check(block, "block %zu: no memory, and all is free", i);
        free(block);
    }
    check(cadastre_check() == 0, "the heap is not whole");
}

static const struct debug_case cases[] = {
    {{"exhausted, scribble", exhausted}, {"CADASTRE_SCRIBBLE=1"}, .errors = "", .prepare = limit},
    {{"exhausted, canaries", exhausted}, {"CADASTRE_CANARIES=1"}, .errors = "", .prepare = limit},
    {{"exhausted, guard pages", exhausted}, {"CADASTRE_GUARD=edges"}, .errors = "", .prepare = limit},
    {{"exhausted, quarantine", exhausted}, {"CADASTRE_QUARANTINE=1G"}, .errors = "", .prepare = limit},
    {{"exhausted, stacks", exhausted}, {"CADASTRE_STACKS=16"}, .errors = "", .prepare = limit},
    {{"exhausted, all modes", exhausted}, {ALL_MODES}, .errors = "", .prepare = limit},
    {{"recovers", recovers}, {"CADASTRE_QUARANTINE=1G"}, .errors = "", .prepare = limit},
    {{"recovers, all modes", recovers}, {ALL_MODES}, .errors = "", .prepare = limit},
};

MAIN_OF_DEBUG_CASES(cases)
