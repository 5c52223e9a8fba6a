/*
 * The set of arenas: which threads belong to which, batches of blocks sorted out among their owners, the retention
 * contract over all, and the one walk that merges every arena's view and LARGE by address.
 */
#ifndef ARENAS_H
#define ARENAS_H

#include "arena.h"
#include "large.h"

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

/*
 * Blocks of any arenas, freed, on their way back to their owners: in bundles, as blocks that were taken in a row often
 * come back in a row, and then one bit operation gives back many. Owned by one thread; what is atomic is so for the
 * child of a fork, which inherits the batches of threads that are no more.
 */
struct batch {
    _Atomic size_t count;
    uint64_t owners;                /* a bit for each arena of which it has held a block since it was empty */
    uint8_t newest[OUTGOING_HINTS]; /* by a hash of bundle.line, the last bundle that was added; at first 0 */
    struct bundle bundles[OUTGOING_BUNDLES];
};

INLINE uint8_t *batch_newest(struct batch *batch, const state_byte *state) {
    return &batch->newest[(uintptr_t)state / 64 % OUTGOING_HINTS];
}

INLINE uint64_t batch_bit(const state_byte *state) {
    return UINT64_C(1) << ((uintptr_t)state % 64);
}

/* Where to add the block that has this state; NULL: there is no bundle for it, or none was found. If it is in one
 * already (freed twice by racing threads), it needs another, and is found out when that is flushed. */
INLINE struct bundle *batch_find(struct batch *batch, const state_byte *state) {
    size_t newest = *batch_newest(batch, state);
    struct bundle *bundle = &batch->bundles[newest];
    if (UNLIKELY(newest >= load_relaxed(&batch->count) || bundle->line != round_down((uintptr_t)state, 64) ||
                 (load_relaxed(&bundle->bits) & batch_bit(state)) != 0))
        return NULL;
    return bundle;
}

/* Adds a block that is not live any more. */
INLINE void batch_add(struct bundle *bundle, const state_byte *state) {
    store_release(&bundle->bits, load_relaxed(&bundle->bits) | batch_bit(state));
}

/* The same in a new bundle, for which there is room. */
INLINE void batch_add_bundle(struct batch *batch, const struct slab_line *line, const void *block,
                             const state_byte *state) {
    size_t count = load_relaxed(&batch->count);
    struct bundle *bundle = &batch->bundles[count];
    size_t index = (size_t)(state - load_relaxed(slab_states(line)));
    bundle->line = round_down((uintptr_t)state, 64);
    bundle->word = slab_word_at((uintptr_t)block, slab_class(line), index);
    store_relaxed(&bundle->bits, batch_bit(state));
    *batch_newest(batch, state) = (uint8_t)count;
    batch->owners |= UINT64_C(1) << slab_arena(line);
    store_release(&batch->count, count + 1);
}

_Static_assert(sizeof(struct batch) <= 4096, "one page of metadata");
_Static_assert(OUTGOING_BUNDLES <= UINT8_MAX, "batch.newest");
_Static_assert(ARENAS_MAX <= 64, "an arena has a bit in a batch's owners");

/* Empties the batch, owner by owner, each group under its owner's lock. As arena_flush_locked for the result. */
size_t arenas_flush(struct batch *batch, void **twice);

/* Brings what is retained within the contract, if it is not: purges oldest first, and a little more. */
void arenas_keep_contract(void);

/* Sweeps a part of the ledger, if one is due, of what it knows of zones and LARGE spans that are gone. false: none is.
 * The debugging modes do so once a call; who unmaps all that is free does so until no part is due. */
bool arenas_sweep_ledger(void);

/* Gives back all that is retained: the pages for malloc_trim, and the addresses. false: there was nothing. */
bool arenas_purge_all(void);

/* Gives back addresses, which is what counts against RLIMIT_AS and the like: empty zones and LARGE spans, and what lies
 * between aligned blocks. For when the kernel refuses. */
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
 * allocate, free, block, and never return. Exact: a block live during the whole walk is visited once, one free during
 * it is not. A slab is looked at in pieces, so that little of the stack is taken. */
void arenas_walk(bool (*visit)(void *argument, const struct walk_block *block), void *argument);

/* What there is in a zone's units, or in one of them. Blocks are live, free in their slab, or else cached: by a thread,
 * or on their way to it. */
struct walk_counts {
    size_t units[SLAB_CARVED + 1]; /* by status */
    size_t blocks;
    size_t live;
    size_t free;
    size_t live_bytes; /* requested */
    size_t free_bytes; /* capacity of the free ones */
};

INLINE size_t walk_cached(const struct walk_counts *counts) {
    size_t known = counts->live + counts->free;
    return counts->blocks - min_size(known, counts->blocks); /* a block freed twice by racing threads may be both */
}

/* The percentage of the slabs' bytes that lies in free blocks. */
INLINE size_t walk_fragmentation(const struct walk_counts *counts) {
    size_t bytes = counts->units[SLAB_CARVED] * UNIT_SIZE;
    return bytes == 0 ? 0 : (counts->free_bytes * 100 + bytes / 2) / bytes;
}

struct walk_zone {
    uintptr_t start;
    size_t size;
    unsigned first_unit; /* those before are the guard, one, and the header */
    unsigned units;
    enum walk_category category;
    unsigned arena;
    struct walk_counts counts; /* of the units that were looked at so far */
};

/* A unit of a zone: a slab, if its status is SLAB_CARVED. */
struct walk_slab {
    uintptr_t start;
    enum slab_status status;
    size_t block_size;
    struct walk_counts counts;
};

/* A LARGE mapping, live or kept. */
struct walk_span {
    uintptr_t start;
    size_t size;
    enum large_kind kind;
};

/*
 * The same walk with all that it comes by: for each zone `zone`, for each of its units `slab` and then its live blocks
 * `block`, and `zone_end`; for each LARGE span `span` and then, if it is live, `block`. NULL: not wanted. It ends when
 * one of them says false.
 */
struct walk_visitor {
    bool (*zone)(void *argument, const struct walk_zone *zone);
    bool (*slab)(void *argument, const struct walk_zone *zone, const struct walk_slab *slab);
    bool (*block)(void *argument, const struct walk_block *block);
    bool (*zone_end)(void *argument, const struct walk_zone *zone);
    bool (*span)(void *argument, const struct walk_span *span);
};

/* For it to look at a slab as it stands at one instant: more than a small stack has. */
#define WALK_SPANS 32
struct walk_room {
    struct slab_room slab;
    struct large_view spans[WALK_SPANS];
};
void arenas_walk_all(const struct walk_visitor *visitor, void *argument, struct walk_room *room);

/* Whether a block that a walk came by is still live, with the same size (or is so again). */
bool arenas_is_live(const struct walk_block *block);

/* For fork. */
void arenas_lock_all(void);
void arenas_unlock_all(void);
void arenas_reset_locks(struct arena *mine); /* the only thread's arena, or NULL */

#endif
