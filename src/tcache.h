/*
 * The thread cache: for each class a magazine, a stack of free blocks of the thread's own arena, and an outgoing batch
 * for blocks of other arenas. Its hit paths are here, inline: no lock, no read-modify-write, no write to the block.
 *
 * A thread that vanishes in a fork may stand between any two instructions, and its cache is inherited by the child. So
 * a push writes state, entry, then top; a pop writes top, then state: whatever prefix of these the child sees, no
 * block is in the cache twice or both live and in it; one may be lost. Whatever touches more than one entry is done
 * under the arena's lock, which fork takes; under it alone change limit and base.
 *
 * It is a prefix, though the child has no lock to acquire: the kernel shares the pages, and before it lets the parent
 * fault on one it has every CPU drop its old translations, and with them complete what was stored by them. A later
 * store faults; and a store is not seen before those that come first in the program are known not to fault. So the
 * order of the instructions is what counts, on aarch64, too, and a release keeps the compiler from changing it.
 *
 * A signal handler may stand there as well, and take and free blocks itself. That is undefined, and a hit has no lock
 * that would tell. What the hit then writes undoes what the handler has done to the magazine: blocks that it freed are
 * lost, and those that it took are there again. So a pop reads the whole entry, lowers the top, and looks whether the
 * block is live, in this order; if it is, tcache_refill drops it. Not so harmless is a handler that comes to a slow
 * path of the same class, as a refill, a flush or a longer array is undone as well.
 *
 * A magazine keeps a pointer to its top, not base and index: half the time on random patterns, as the address of the
 * next store does not wait for a computation. One that is all zero is both empty and full.
 */
#ifndef TCACHE_H
#define TCACHE_H

#include "arenas.h"
#include <pthread.h>

struct magazine {
    struct entry *_Atomic top; /* behind the last entry; written by the owner only, atomic for the child of fork */
    struct entry *limit;       /* top == limit: full */
    struct entry *base;        /* top == base: empty */
    uint32_t live_bias;        /* STATE_LIVE + block size: less the requested size, it is the state */
    uint16_t entries_max;      /* a power of two */
    uint16_t refill;           /* entries that a refill takes at the most, a power of two */
};

/*
 * A cache has a row of magazines for each arena, a row every OWNER(1, 0) bytes, of which the thread's own arena's alone
 * is used. The others stay zero pages: so the one test in free for a full magazine finds the blocks of other arenas,
 * too. This structure is the head of it all: the row of arena 0, and in the room that its magazines leave what else
 * there is to a cache.
 */
struct tcache {
    struct magazine first_row[CLASSES];
    /* Offsets of the own row's magazines by (size + 15) / 16: sizeclass_of_tiny, near at hand and scaled. */
    uint32_t tiny[TINY_MAX / 16 + 1];
    uint32_t row; /* the offset of the own row: OWNER(arena, 0) */
    /* Colder. */
    struct arena *owner;             /* NULL: a cache that caches nothing */
    size_t bytes;                    /* of the blocks that the magazines have room for, together */
    _Atomic ptrdiff_t outgoing_left; /* bytes that the outgoing batch may yet hold; written by the owner only */
    struct tcache *next;             /* in its arena's list of active or of parked caches; under the arena's lock */
    struct tcache *prev;
    struct tcache *made_before;     /* constant: caches are for ever */
    bool is_counted;                /* in tcache_threads, and in its arena's threads; under the arena's lock */
    pthread_mutex_t life;           /* tcaches.c */
    struct batch *_Atomic outgoing; /* NULL until the first block of another arena's; as magazine.top */
    /* Spans of LARGE blocks that the thread has freed, the newest among the last. */
    struct node *_Atomic retired[RETIRED_MAX];
    size_t retired_spans[RETIRED_MAX]; /* their lengths */
    atomic_uint retired_count;         /* as magazine.top */
    size_t retired_bytes;
    size_t retired_claim; /* of what may be retained */
    /* The sweep: a class in turn, every SWEEP_PERIOD slow paths. */
    uint16_t sweep_ticks;
    uint16_t swept_class;
    uint16_t swept_held[CLASSES]; /* the entries that there were at the last visit */
};

/* The calling thread's cache; before its first use, and after its destructor has run, one that is immutable and
 * every access to which is a miss. */
extern __thread struct tcache *tcache_current;

INLINE bool tcache_is_real(const struct tcache *cache) {
    return cache->owner != NULL;
}

/* ------------------------------------------------------------------------------------------- the hit paths */

/* By the owner word of a slab. */
INLINE struct magazine *tcache_magazine(struct tcache *cache, size_t owner) {
    return (struct magazine *)((char *)cache + owner);
}

INLINE size_t tcache_own(const struct tcache *cache, unsigned class) {
    return cache->row + OWNER(0, class);
}

INLINE struct magazine *tcache_own_magazine(struct tcache *cache, unsigned class) {
    return tcache_magazine(cache, tcache_own(cache, class));
}

INLINE bool tcache_is_empty(const struct magazine *magazine) {
    return load_relaxed(&magazine->top) == magazine->base;
}

/* The state first, in both: where a handler changes the entry in between, the block of one and the state of another are
 * taken together. So the state is that of the block which the handler took first: it is live, and that is seen. */
INLINE struct entry tcache_read(const struct entry *from) {
    state_byte *state = from->state;
    atomic_signal_fence(memory_order_acquire);
    return (struct entry){from->block, state};
}

INLINE void tcache_write(struct entry *to, void *block, state_byte *state) {
    to->state = state;
    atomic_signal_fence(memory_order_release);
    to->block = block;
}

/*
 * A live block for `size` bytes, or NULL: the magazine is empty, or its top is no free block (tcache_refill). Its class
 * is the tightest for the size, or for TINY wastes no more than STATE_SLACK_MAX; `category` is the class's, and a
 * constant at each call. *before: the state that the block had, which says whether its bytes are zero.
 *
 * The compiler would add up cache and owner once, for all accesses to the magazine; but each can have the sum in its
 * address, where it costs nothing. So it is to forget, after each, that the owner was the same. For SMALL, whose states
 * need more instructions, it was no gain: small/around-1k took 4% longer.
 */
INLINE void *tcache_pop(struct tcache *cache, size_t owner, enum category category, size_t size, uint8_t *before) {
    struct entry *top = load_relaxed(&tcache_magazine(cache, owner)->top);
    if (category == TINY)
        OPAQUE(owner);
    if (UNLIKELY(top == tcache_magazine(cache, owner)->base))
        return NULL;
    struct entry entry = tcache_read(top - 1);
    if (category == TINY)
        OPAQUE(owner);
    size_t live = tcache_magazine(cache, owner)->live_bias - size;
    if (category == TINY)
        OPAQUE(owner);
    store_relaxed(&tcache_magazine(cache, owner)->top, top - 1);
    atomic_signal_fence(memory_order_seq_cst);
    if (category == TINY)
        OPAQUE(owner);
    *before = load_relaxed(entry.state);
    if (UNLIKELY(*before >= STATE_LIVE)) {
        store_relaxed(&tcache_magazine(cache, owner)->top, top);
        return NULL;
    }
    if (category == TINY) {
        store_release(entry.state, (uint8_t)live);
    } else {
        store_release(slab_small_slack(entry.state), (uint16_t)(live - STATE_LIVE)); /* as slab_set_slack */
        store_release(entry.state, STATE_WIDE);
    }
    ASSUME(entry.block != NULL);
    return entry.block;
}

/* The same where a TINY block's slack does not fit its state: a class that was chosen for its alignment may be much
 * wider than the size. */
INLINE void *tcache_pop_loose(struct magazine *magazine, size_t size, uint8_t *before) {
    struct entry *top = load_relaxed(&magazine->top);
    if (UNLIKELY(top == magazine->base))
        return NULL;
    struct entry entry = tcache_read(top - 1);
    store_relaxed(&magazine->top, top - 1);
    atomic_signal_fence(memory_order_seq_cst);
    *before = load_relaxed(entry.state);
    if (UNLIKELY(*before >= STATE_LIVE)) {
        store_relaxed(&magazine->top, top);
        return NULL;
    }
    slab_set_size(directory_find((uintptr_t)entry.block), entry.state, size);
    return entry.block;
}

/* The same from the thread's own arena, of any class that holds `size`. */
INLINE void *tcache_take(struct tcache *cache, unsigned class, size_t size, uint8_t *before) {
    size_t owner = tcache_own(cache, class);
    if (!sizeclass_is_tiny(class))
        return tcache_pop(cache, owner, SMALL, size, before);
    if (LIKELY(sizeclasses[class].size - size <= STATE_SLACK_MAX))
        return tcache_pop(cache, owner, TINY, size, before);
    return tcache_pop_loose(tcache_magazine(cache, owner), size, before);
}

/* Frees a live block of the magazine's arena and class. false, and nothing done: it is full. */
INLINE bool tcache_push(struct magazine *magazine, void *block, state_byte *state) {
    struct entry *top = load_relaxed(&magazine->top);
    if (UNLIKELY(top == magazine->limit))
        return false;
    store_relaxed(state, STATE_USED);
    tcache_write(top, block, state);
    store_release(&magazine->top, top + 1);
    return true;
}

/* What would be left of the outgoing batch's bytes; negative: it has no room for a block of this class. */
INLINE ptrdiff_t tcache_outgoing_after(const struct tcache *cache, unsigned class) {
    return load_relaxed(&cache->outgoing_left) - (ptrdiff_t)sizeclasses[class].size;
}

/* Frees a live block of another arena. false, and nothing done: the batch is not there, or has no bundle for it. */
INLINE bool tcache_push_outgoing(struct tcache *cache, unsigned class, state_byte *state) {
    struct batch *batch = load_relaxed(&cache->outgoing);
    ptrdiff_t left = tcache_outgoing_after(cache, class);
    if (UNLIKELY(batch == NULL || left < 0))
        return false;
    struct bundle *bundle = batch_find(batch, state);
    if (UNLIKELY(bundle == NULL))
        return false;
    if (!PLANTED_DELAY)
        store_relaxed(state, STATE_USED);
    batch_add(bundle, state);
    store_relaxed(&cache->outgoing_left, left);
    return true;
}

/* A bundle for a block of another arena; what tcache_push_outgoing cannot do, this does if there is room. */
bool tcache_push_bundle(struct tcache *cache, const struct slab_line *line, void *block, state_byte *state);

/* ------------------------------------------------------------------------------------------ LARGE blocks */

/* Takes one of the kept spans out of the list, whose last is `last`. The count first: what a child of fork sees is at
 * most short of one. This and the next go by a count that was read once: a signal handler that changes the list in
 * between is undone by that, and cannot lead out of it. */
INLINE struct node *tcache_unlist_large(struct tcache *cache, unsigned at, unsigned last) {
    struct node *node = load_relaxed(&cache->retired[at]);
    cache->retired_bytes -= cache->retired_spans[at];
    store_release(&cache->retired_count, last);
    store_release(&cache->retired[at], load_relaxed(&cache->retired[last]));
    cache->retired_spans[at] = cache->retired_spans[last];
    return node;
}

/* Behind the `count` that are in the list. */
INLINE void tcache_list_large(struct tcache *cache, unsigned count, struct node *node, size_t span) {
    cache->retired_spans[count] = span;
    store_release(&cache->retired[count], node);
    store_release(&cache->retired_count, count + 1);
    cache->retired_bytes += span;
}

/* A live LARGE block out of a span that the thread keeps; NULL: none fits, or a signal handler has taken it. */
INLINE void *tcache_take_large(struct tcache *cache, size_t size) {
    size_t span = large_span(size);
    unsigned count = load_relaxed(&cache->retired_count);
    for (unsigned at = count; at-- > 0;)
        if (large_fits(cache->retired_spans[at], span))
            return large_revive(tcache_unlist_large(cache, at, count - 1), size);
    return NULL;
}

/* Half of what the thread keeps goes to all. */
INLINE bool tcache_keeps_large(const struct tcache *cache) {
    return load_relaxed(&cache->retired_count) > 0;
}
void tcache_give_up_large(struct tcache *cache);

/* Frees a live LARGE block, whose span the thread keeps. false, and nothing done: there is no such block, or no room.
 * The second one makes room, and does nothing only if there is no such block, or no cache. */
INLINE bool tcache_keep_large(struct tcache *cache, void *block) {
    size_t span;
    unsigned count = load_relaxed(&cache->retired_count);
    if (UNLIKELY(count == RETIRED_MAX))
        return false;
    struct node *node = large_retire(block, cache->retired_claim - cache->retired_bytes, &span);
    if (UNLIKELY(node == NULL))
        return false;
    tcache_list_large(cache, count, node, span);
    return true;
}
bool tcache_keep_large_slowly(struct tcache *cache, void *block);

/* ------------------------------------------------------------------------------------------ the slow paths */

/* After tcache_pop gave NULL: rids the magazine of blocks that are live, and fills it from the arena if it is empty.
 * false: there is no memory. */
bool tcache_refill(struct tcache *cache, unsigned class);

/* Frees a live block whatever its owner and the cache's fill; a cache that is not real gives it to its owner at
 * once. */
void tcache_give(struct tcache *cache, void *block, state_byte *state);

/* Gives a slab's block that is not live and in no cache, but kept elsewhere, back to its owner. */
void tcache_return(void *block);

/* A live block of `class` straight from an arena, which may grow for it or not: for threads without a cache, and for
 * the last resort. *state as tcache_pop. */
void *tcache_take_direct(struct arena *arena, bool may_grow, unsigned class, size_t size, uint8_t *state);

/* ----------------------------------------------------------------------------------------- the whole cache */

/* The calling thread's from now on; NULL: none. */
void tcache_set_current(struct tcache *cache);

/* Everything in the cache goes back to the arenas. */
void tcache_drain(struct tcache *cache);

/* All but what it may keep while it waits for a thread. */
void tcache_trim(struct tcache *cache);

/* Its thread has vanished in a fork, maybe between a change of the list of LARGE spans and of what is known of it: they
 * agree again. Gives its claim, which is all that it keeps. */
size_t tcache_measure_retired(struct tcache *cache);

/* Those with a thread, as far as is known: what they may hold together is shared by so many. */
extern _Atomic size_t tcache_threads;

_Static_assert(sizeof(struct magazine) == OWNER(0, 1), "an owner word is a magazine's offset");
_Static_assert(sizeof(struct tcache) <= OWNER(1, 0), "the head of a cache fits the first row");
/* A TINY request's slack fits the state byte: the widest step is that of the last doubling. */
_Static_assert(TINY_MAX / 16 + 16 <= STATE_SLACK_MAX, "tcache_pop");

#endif
