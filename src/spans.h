/*
 * The LARGE spans: the tree of them, their nodes, and what becomes of the free ones. Freed spans stay in the tree:
 * CACHED while their pages are resident, PURGED once the pages are given back and only the addresses kept. Neighbours
 * of one kind become one; neighbours of both serve a request together.
 *
 * Law: the retained CACHED spans are exactly those in the age list, and their bytes are what is accounted as retained.
 *
 * No function here takes a lock or makes a system call but spans_make_spare: src/large.c holds its lock around them.
 */
#ifndef SPANS_H
#define SPANS_H

#include "config.h"
#include "spantree.h"

#define SPANS_SPARES 2 /* a span is split in three at the most */

/* A node for later; NULL: no memory. Nodes are kept for good, as a wrong free may yet look at one. */
struct node *spans_make_spare(void);
void spans_add_spare(struct node *node);
unsigned spans_spare_count(void);

/* These use up to SPANS_SPARES spares. */
struct node *spans_add(uintptr_t start, size_t span, enum large_kind kind);
struct node *spans_split(struct node *node, uintptr_t at); /* a free one; gives what begins at `at`, of the same age */

/* Makes one live node of free spans that follow each other: from `at` on `span` bytes, and what is not worth cutting.
 * *zeroed: all of them were purged. */
struct node *spans_take(uintptr_t at, size_t span, bool *zeroed);

/* What is cut off when a span of `need` is cut from one with `excess` more: all that could serve another request, or
 * that would waste more than an eighth. */
INLINE bool spans_worth_cutting(size_t excess, size_t need) {
    return excess >= SMALL_MAX || excess > need / 8;
}

void spans_remove(struct node *node);
void spans_move(struct node *node, uintptr_t start, size_t span); /* a live one, to other addresses */

/* `next` starts where `node` ends; and it becomes a part of it, which spantree_refresh is yet to be told. */
bool spans_follow(const struct node *node, const struct node *next);
void spans_absorb(struct node *node, struct node *next);

/* A span becomes a cached one and joins its neighbours; a purged one does. */
void spans_cache(struct node *node);
struct node *spans_coalesce(struct node *node);

/* While its pages are given back a span is of neither kind, and not retained. */
void spans_purge_begin(struct node *node);
void spans_purge_end(struct node *node, bool zeroed);
void spans_purge_undo(void); /* of all of them: in a child of fork, the threads that did it are gone */

/* The oldest retained span; and its age, UINT64_MAX: there is none. The age may be asked for without the lock. */
struct node *spans_oldest(void);
uint64_t spans_oldest_stamp(void);

size_t spans_purged(void); /* bytes of all purged spans together */

/* The tree itself. */
struct node *spans_root(void);

bool spans_are_valid(void);

#endif
