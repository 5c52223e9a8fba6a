/*
 * A block that is in two places at once, as two threads that free it at the same instant leave it, is handed out once:
 * what is live is dropped from the magazine, whichever call comes by it, and reported. And a slab whose blocks are all
 * back, but for one that is live all the same, stays what it is.
 */
#include "arenas.h"
#include "cadastre.h"
#include "directory.h"
#include "message.h"
#include "process.h"
#include "tap.h"

static state_byte *state_of(void *block) {
    const struct slab_line *line = directory_find((uintptr_t)block);
    return load_relaxed(slab_states(line)) + slab_index_at(line, (uintptr_t)block);
}

/* The second of two racing frees: it has found the block live before the first wrote its state. */
static void free_twice(void *block) {
    state_byte *state = state_of(block);
    uint8_t live = load_relaxed(state);
    cadastre_free(block);
    store_relaxed(state, live);
    cadastre_free(block);
}

static void *take_plain(size_t size) {
    return cadastre_malloc(size);
}

static void *take_zeroed(size_t size) {
    return cadastre_calloc(1, size);
}

static void *take_aligned(size_t size) {
    return cadastre_aligned_alloc(64, size);
}

static void *take_loose(size_t size) {
    return cadastre_aligned_alloc(1024, size);
}

static void handed_out_once(const char *what, void *(*take)(size_t size), size_t size) {
    void *block = take(size), *other = take(size), *taken[8];
    size_t count, found = 0, size_of_it = 0;
    bool before = message_begin_misuse(&count);
    cadastre_free(other);
    free_twice(block);
    for (size_t i = 0; i < 8; i++) {
        taken[i] = take(size);
        found += taken[i] == block;
        size_of_it += cadastre_malloc_usable_size(taken[i]) >= size;
    }
    size_t after = 0;
    message_begin_misuse(&after);
    ok(before && found == 1 && size_of_it == 8 && after == count + 2, "%s: a block that is there twice", what);
    for (size_t i = 0; i < 8; i++)
        cadastre_free(taken[i]);
}

/* Out of a slab that has it back, for it was flushed twice, while it is live. */
static void refilled(void) {
    struct arena *arena = arenas_at(0);
    struct entry entry;
    void *twice = NULL, *block = cadastre_malloc(3000);
    entry = (struct entry){block, state_of(block)};
    arena_lock(arena);
    arena_flush_locked(arena, &entry, 1, &twice);
    arena_unlock(arena);
    size_t found = 0;
    static void *taken[100];
    for (size_t i = 0; i < 100; i++) {
        taken[i] = cadastre_malloc(3000);
        found += taken[i] == block;
    }
    ok(found == 0, "a live block that its slab gives out is not handed out");
    for (size_t i = 0; i < 100; i++)
        cadastre_free(taken[i]);
    cadastre_free(block);
}

static void stays_carved(void) {
    struct arena *arena = arenas_at(0);
    unsigned class = sizeclass_of(20000);
    struct entry entries[3];
    void *twice;
    arena_lock(arena);
    while (arena_refill_locked(arena, class, entries, 3) != 3)
        continue;
    slab_set_size(directory_find((uintptr_t)entries[1].block), entries[1].state, 20000);
    arena_flush_locked(arena, entries, 3, &twice);
    arena_unlock(arena);
    ok(slab_class(directory_find((uintptr_t)entries[1].block)) == class && arena_is_valid(arena),
       "a slab with a live block is not given up, though it has come back");
    store_relaxed(entries[1].state, STATE_USED);
    arena_lock(arena);
    size_t doubles = arena_flush_locked(arena, &entries[1], 1, &twice);
    arena_unlock(arena);
    ok(doubles == 0 && load_relaxed(&directory_find((uintptr_t)entries[1].block)->reciprocal) == 0 &&
           arena_is_valid(arena),
       "until that is freed");
}

int main(void) {
    process_enter();
    handed_out_once("malloc, TINY", take_plain, 40);
    handed_out_once("malloc, SMALL", take_plain, 5000);
    handed_out_once("calloc, TINY", take_zeroed, 600);
    handed_out_once("calloc, SMALL", take_zeroed, 9000);
    handed_out_once("aligned_alloc, TINY", take_aligned, 130);
    handed_out_once("aligned_alloc, TINY, much slack", take_loose, 130);
    handed_out_once("aligned_alloc, SMALL", take_aligned, 1100);
    refilled();
    stays_carved();
    return tap_done();
}
