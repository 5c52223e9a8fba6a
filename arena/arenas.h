/*
 * The set of arenas: which threads belong to which, batches of blocks sorted out among their owners, the retention
 * contract over all, and the one walk that merges every arena's view and LARGE by address.
 */
#ifndef ARENAS_H
#define ARENAS_H

#include "arena.h"

/* Sets the number of arenas (1..ARENAS_MAX; 0: by CPUs and memory limits), and the size of zones. Once, at boot. */
void arenas_boot(unsigned count);

unsigned arenas_count(void);
struct arena *arenas_at(unsigned index);
size_t arenas_zone_size(void);

/* An arena for the calling thread: one that threads have left, else by the thread's number; and the thread's leave. */
struct arena *arenas_join(void);
void arenas_leave(struct arena *arena);

/* Threads that join from now on are given the first `count` arenas only, at least 1. */
void arenas_limit_joining(unsigned count);

/* Blocks of any arenas, freed, on their way back to their owners. Owned by one thread; the count is atomic for the
 * child of a fork, which inherits the batches of threads that are no more. */
struct batch {
    _Atomic size_t count;
    uint64_t owners; /* a bit for each arena of which it has held a block since it was empty */
    struct entry entries[OUTGOING_ENTRIES];
};

/* Adds a block that is not live any more; there is room. */
INLINE void batch_add(struct batch *batch, unsigned arena, void *block, state_byte *state) {
    size_t count = load_relaxed(&batch->count);
    batch->owners |= UINT64_C(1) << arena;
    batch->entries[count] = (struct entry){block, state};
    store_release(&batch->count, count + 1);
}

_Static_assert(sizeof(struct batch) <= 4096, "one page of metadata");
_Static_assert(ARENAS_MAX <= 64, "an arena has a bit in a batch's owners");

/* Empties the batch, owner by owner, each group under its owner's lock. As arena_flush_locked for the result. */
size_t arenas_flush(struct batch *batch, struct entry *twice);

/* Brings what is retained within the contract, if it is not: purges oldest first, down to half. */
void arenas_keep_contract(void);

/* Gives back all that is retained: the pages for malloc_trim, and the addresses. false: there was nothing. */
bool arenas_purge_all(void);

/* Gives back addresses, which is what counts against RLIMIT_AS and the like: empty zones and LARGE spans. For when
 * the kernel refuses. */
bool arenas_unmap_all(void);

/* ------------------------------------------------------------------------------------------------ the walk */
enum walk_category { WALK_TINY = TINY, WALK_SMALL = SMALL, WALK_LARGE };

/* A live block as it stood when its owner was looked at. */
struct walk_block {
    uintptr_t start;
    size_t size;     /* requested */
    size_t capacity; /* usable */
    uintptr_t zone;  /* or the LARGE mapping */
    enum walk_category category;
    unsigned arena; /* ARENA_NONE for LARGE */
};

/* Calls `visit` for every live block in address order, until it says false. No lock is held while it runs: it may
 * allocate, free and block. Exact: a block live during the whole walk is visited once, one free during it is not. */
void arenas_walk(bool (*visit)(void *argument, const struct walk_block *block), void *argument);

/* Whose zone `address` lies in; false: in none. */
bool arenas_find_zone(uintptr_t address, unsigned *arena);

/* For fork. */
void arenas_lock_all(void);
void arenas_unlock_all(void);
void arenas_reset_locks(struct arena *mine); /* the only thread's arena, or NULL */

#endif
