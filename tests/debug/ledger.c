/*
 * What is known of freed blocks goes with the memory that they were in: however many addresses a program has used, the
 * ledger is as large as what is mapped asks for. As long as that is there, a late mistake is still explained.
 */
#include "cadastre.h"
#include "debug/cases.h"

#include <malloc.h>
#include <stdbool.h>

enum { BLOCKS = 100000 };

static void *blocks[BLOCKS];

/* What the debugging modes' tables have grown by: but for the ledger they are as large as at the start. */
static size_t table_bytes(void) {
    static size_t first;
    struct cadastre_stats stats;
    check(cadastre_stats(&stats, sizeof stats) == 0, "no statistics");
    first = first == 0 ? stats.mapped.debug : first;
    return stats.mapped.debug - first;
}

static void take_all(size_t count, size_t size) {
    for (size_t i = 0; i < count; i++)
        check((blocks[i] = malloc(size)), "no memory");
}

static void give_all(size_t count) {
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
}

/* How large the tables are with all the blocks, and without: they fall to that part. */
static void falls(size_t count, size_t size, bool trims, size_t part) {
    free(opaque(malloc(1)));
    table_bytes();
    for (int round = 0; round < 2; round++) {
        take_all(count, size);
        size_t most = table_bytes();
        give_all(count);
        if (trims)
            malloc_trim(0);
        size_t least = table_bytes();
        diag("%zu blocks of %zu bytes: %zu kB, and %zu when all are freed", count, size, most >> 10, least >> 10);
        check(most > 0 && least <= most / part, "%zu kB of %zu are left", least >> 10, most >> 10);
    }
}

static void after_a_trim(void) {
    falls(BLOCKS, 16, true, 8);
    falls(BLOCKS / 5, 2000, true, 4);
}

static void by_itself(void) {
    falls(BLOCKS, 500, false, 2);
}

static void of_guarded_blocks(void) {
    falls(BLOCKS / 10, 70000, false, 2);
}

/* The zone stays, as a neighbour in it is live; in the meantime the ledger was swept. */
static void late_mistakes(void) {
    static const size_t sizes[] = {100, 5000, 60000};
    void *given[COUNT(sizes)], *neighbours[COUNT(sizes)];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        given[i] = opaque(malloc(sizes[i]));
        neighbours[i] = opaque(malloc(sizes[i]));
    }
    for (size_t i = 0; i < COUNT(sizes); i++)
        free(given[i]);
    falls(BLOCKS, 500, true, 1);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        free(given[i]);
        expect("free(0x@): double free: block of %zu bytes, arena #", sizes[i]);
        expect_who("called", this_thread(), NULL);
        expect_who("given back", this_thread(), NULL);
        free(neighbours[i]);
    }
    expect_no_more();
}

static const struct debug_case cases[] = {
    {{"what a trim unmaps is forgotten", after_a_trim}, {"CADASTRE_HISTORY=1"}, .errors = ""},
    {{"so is what is unmapped as blocks are freed", by_itself}, {"CADASTRE_HISTORY=1"}, .errors = ""},
    {{"and what guarded blocks leave", of_guarded_blocks}, {"CADASTRE_GUARD=edges"}, .errors = ""},
    {{"late mistakes are explained all the same", late_mistakes}, {"CADASTRE_HISTORY=1"}, .errors = NULL},
    {{"late mistakes are explained all the same, all modes", late_mistakes}, {ALL_MODES}, .errors = NULL},
};

MAIN_OF_DEBUG_CASES(cases)
