/*
 * Shows that a misuse left the heap unharmed: blocks set up before it keep their contents, the register counts the
 * same live blocks, and what is handed out afterwards overlaps nothing.
 */
#ifndef MISUSE_GUARD_H
#define MISUSE_GUARD_H

#include "api/heapmap.h"
#include "misuse/child.h"
#include "threads/random.h"

enum { GUARDS = 300, FRESH = 3000 };

static struct {
    unsigned char *block;
    size_t size;
} guards[GUARDS];

static size_t guarded_live; /* live blocks in the register, as guard_set or guard_live found them */

/* Takes the register's count as what must hold from here on. */
__attribute__((unused)) static void guard_live(void) {
    struct heapmap map = heapmap_read();
    check(!map.error[0], "show_alloc_mem: %s", map.error);
    guarded_live = map.count;
}

/* Fills the heap with blocks of many sizes, each with a pattern of its own. */
__attribute__((unused)) static void guard_set(void) {
    struct rng rng = rng_stream(1, 1);
    for (size_t i = 0; i < GUARDS; i++) {
        guards[i].size = rng_size(&rng) + 1;
        guards[i].block = malloc(guards[i].size);
        check(guards[i].block, "no memory for the guards");
        pattern_write(guards[i].block, guards[i].size, i);
    }
    guard_live();
}

static void guards_hold(const char *when) {
    for (size_t i = 0; i < GUARDS; i++)
        check(pattern_holds(guards[i].block, guards[i].size, i), "%s: a bystander of %zu bytes changed", when,
              guards[i].size);
}

/* The heap is as guard_set left it, and goes on working. Nothing of this is reported. */
__attribute__((unused)) static void guard_check(void) {
    static unsigned char *fresh[FRESH];
    static const size_t sizes[] = {16, 42, 64, 1000, 1024, 5000, 40000, 100000};
    guards_hold("after the misuse");
    struct heapmap map = heapmap_read();
    check(!map.error[0], "show_alloc_mem: %s", map.error);
    check(map.count == guarded_live, "%zu blocks are live, not %zu", map.count, guarded_live);
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t count = sizes[s] < 5000 ? FRESH : sizes[s] < 40000 ? 500 : 60;
        for (size_t i = 0; i < count; i++) {
            fresh[i] = malloc(sizes[s]);
            check(fresh[i], "no memory after the misuse");
            pattern_write(fresh[i], sizes[s], GUARDS + i);
        }
        for (size_t i = 0; i < count; i++)
            check(pattern_holds(fresh[i], sizes[s], GUARDS + i), "two live blocks of %zu bytes overlap", sizes[s]);
        guards_hold("after new blocks");
        for (size_t i = 0; i < count; i++)
            free(fresh[i]);
    }
    expect_silence();
    for (size_t i = 0; i < GUARDS; i++)
        free(guards[i].block);
    expect_silence();
}

#endif
