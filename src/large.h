/*
 * LARGE: one mapping for one block above SMALL_MAX, and the one global tree of them, ordered by address.
 *
 * What becomes of freed spans stands in spans.h. A request is served first fit: by a CACHED span, or else by a run of
 * CACHED and PURGED ones. CACHED ones count as retained; the oldest is purged first, from its end.
 *
 * Thread-safe. Nothing here needs a lock of the caller's; all of it may make system calls unless said otherwise.
 */
#ifndef LARGE_H
#define LARGE_H

#include "directory.h"
#include "lock.h"
#include "os.h"
#include "spans.h"

/* "live" and so on, for people. */
const char *large_kind_name(enum large_kind kind);

/* A node as it stood at one instant. */
struct large_view {
    uintptr_t start;
    size_t span; /* bytes of the mapping, of which ... */
    size_t size; /* ... were requested */
    enum large_kind kind;
    size_t guards; /* what lies behind it, and cannot be touched; 0: it has no guards, else a page before it, too */
    bool retained; /* CACHED, and among what is to be purged: not so what the kernel would not take back */
    bool gap;      /* PURGED, and nothing but addresses so far */
};

/* A live block of `size` bytes with room for `room` (size or more), at a multiple of `alignment` (a power of two), or
 * NULL: the kernel refuses. *zeroed: whether its bytes are known to be zero. room + alignment <= PTRDIFF_MAX. */
void *large_take(size_t size, size_t room, size_t alignment, bool *zeroed);

/* The same of memory that is resident already, or NULL: there is none so long. */
void *large_take_warm(size_t size, size_t room, size_t alignment);

/* Frees the block that starts at `block`. false: there is no live one. */
bool large_give(void *block);

/*
 * A thread may keep spans of freed blocks for itself, without the lock: it retires a live block, and revives one that
 * it has retired, or gives it back to all. Nobody else touches a retired span.
 */
INLINE bool large_change_kind(struct node *node, uint8_t from, uint8_t to) {
    return atomic_compare_exchange_strong_explicit(&node->kind, &from, to, memory_order_acq_rel, memory_order_relaxed);
}

/* NULL: there is no such live block, or its span is longer than span_max. */
INLINE struct node *large_retire(void *block, size_t span_max, size_t *span) {
    uintptr_t start = (uintptr_t)block;
    struct node *node = directory_find_large(start);
    if (node == NULL || load_relaxed(&node->start) != start || node->span > span_max || node->guarded)
        return NULL;
    *span = node->span;
    return large_change_kind(node, LARGE_LIVE, LARGE_RETIRED) ? node : NULL;
}

/* How long a span for `size` bytes is at the least: of eight lengths for each doubling, as of the size classes, so that
 * what one block leaves is often what another needs. */
INLINE size_t large_span(size_t size) {
    size_t step = min_size((size_t)1 << (63 - __builtin_clzll(size | 1)) >> 3, LARGE_STEP_MAX);
    return round_up(size | (size == 0), max_size(step, os_page_size()));
}

/* A span of that length may be revived for a block that needs `span`. */
INLINE bool large_fits(size_t length, size_t span) {
    return length >= span && !spans_worth_cutting(length - span, span);
}

/* NULL: it is retired no more. */
INLINE void *large_revive(struct node *node, size_t size) {
    if (UNLIKELY(load_relaxed(&node->kind) != LARGE_RETIRED))
        return NULL;
    store_release(&node->size, size); /* who sees it sees that the block before was retired */
    store_release(&node->kind, LARGE_LIVE);
    return (void *)load_relaxed(&node->start);
}

/* Under large_lock. Nothing, if it is retired no more. */
void large_give_retired_locked(struct node *node);

/* Frees the block in two steps, for the quarantine: from now on it is not live; and then it may be used again. false:
 * there is no such block. */
bool large_hold(void *block);
bool large_give_held(void *block);

/* Notes another requested size for a live block, not above its span. */
void large_set_size(void *block, size_t size);

/* From now on every new block has an inaccessible page before it, and behind it one, or an eighth of its length, which
 * large_extend may use; and its mapping goes when it is freed. A debugging mode; once, at boot. */
void large_guard_edges(void);

/* Has the live block at `block` span `room` bytes, where it is, if it does already, or its guards are long enough.
 * false: nothing done. Its requested size stays. */
bool large_extend(void *block, size_t room);

/* Resizes the live block at `block` to `size` in place, where that takes no system call: it shrinks, or the free spans
 * that follow are long enough. false: nothing done. */
bool large_fit(void *block, size_t size);

/*
 * Resizes the live block at `block` to `size`, keeping its contents, without a copy: in place, or with may_move by
 * moving its pages. The block's address, or NULL: it stands as it was, which for a smaller size does not occur;
 * or there is no such live block (any more); or its pages are better copied.
 */
void *large_resize(void *block, size_t size, bool may_move);

/* The node whose span holds `address`. No system call. */
bool large_find(uintptr_t address, struct large_view *view);

/* Up to `count` nodes that start at `from` or above, by address. No system call. */
size_t large_list(uintptr_t from, struct large_view *views, size_t count);

/* The age of the oldest span that could be purged (account_stamp), UINT64_MAX: none. A hint, taken without the lock. */
uint64_t large_oldest(void);

/* Purges `bytes` of the oldest CACHED span, or all of it when it has less; what it came to, 0 when there is none. */
size_t large_purge_oldest(size_t bytes);

/* Unmaps every free span, and with `gaps` also what lies between aligned blocks; whether there were any. */
bool large_unmap_free(bool gaps);

/* The most blocks that there ever were, and the most bytes of theirs, those that threads have retired among them. */
struct large_counts {
    size_t blocks;
    size_t bytes;
};
struct large_counts large_most(void);

/* How the tree's lock was used so far. */
struct lock_counts large_lock_counts(void);

/* The tree's laws; for tests and checks. No system call. */
bool large_is_valid(void);

/* For fork, and for who has something to do that must not be half done in its child. There, large_reset_lock also takes
 * back the spans that vanished threads were purging. */
void large_lock(void);
void large_unlock(void);
void large_reset_lock(void);

#endif
