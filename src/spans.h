/*
 * The LARGE spans: the tree of them, their nodes, and what becomes of the free ones. Freed spans stay in the tree:
 * CACHED while their pages are resident, PURGED once the pages are given back and only the addresses kept. Neighbours
 * of one kind become one; neighbours of both make a run, and serve a request together; a run of more than RUN_SPANS_MAX
 * or so is cut in two, since it is walked whenever a part of it changes.
 *
 * GAPS are purged spans that no block has had: what lies between blocks of a large alignment, mapped with them, since
 * a hole would cost a mapping for each. They serve such blocks. When what is beside one is purged, it becomes a part of
 * that, and as any other purged span.
 *
 * Laws: the retained CACHED spans are exactly those in the age list, and their bytes are what is accounted as retained.
 * The CACHED spans are in one set of bins by their length, the first spans of all runs in another by the run's, and
 * gaps that are a run by themselves in a third. What is counted as purged are the PURGED spans that are no gaps.
 *
 * No function here takes a lock or makes a system call but spans_make_spare: src/large.c holds its lock around them.
 */
#ifndef SPANS_H
#define SPANS_H

#include "config.h"
#include "spanbins.h"

#define SPANS_SPARES 3 /* a span is added, and split in three at the most */

/* A node for later; NULL: no memory. Nodes are kept for good, as a wrong free may yet look at one; so there are as many
 * as there were spans at once, SPANS_SPARES, and one for each thread that was making one. */
struct node *spans_make_spare(void);
void spans_add_spare(struct node *node);
unsigned spans_spare_count(void);

/* A new live one; and a gap, which joins its neighbours. These and spans_take, spans_purge_begin use up to SPANS_SPARES
 * spares, also spans_add_gap and spans_take together. */
struct node *spans_add(uintptr_t start, size_t span);
struct node *spans_add_gap(uintptr_t start, size_t span);

/* A free span of `span` bytes or more: a CACHED one; the first of a run that is that long; a gap that is a run. */
struct node *spans_find_warm(size_t span);
struct node *spans_find_run(size_t span);
struct node *spans_find_gap(size_t span);

/* Makes one live node of the free span `node` and those that follow: from `at` on `span` bytes, and what is not worth
 * cutting. *zeroed: all of them were purged. */
struct node *spans_take(struct node *node, uintptr_t at, size_t span, bool *zeroed);

/* What is cut off when a span of `need` is cut from one with `excess` more: all that could serve another request, or
 * that would waste more than an eighth. */
INLINE bool spans_worth_cutting(size_t excess, size_t need) {
    return excess >= SMALL_MAX || excess > need / 8;
}

void spans_remove(struct node *node);
void spans_move(struct node *node, uintptr_t start, size_t span); /* a live one, to other addresses */

/* The span that follows is in the same run: it serves a request together with this one. */
bool spans_run_on(const struct node *node);

/* `next` starts where `node` ends; and it becomes a part of it: both live. */
bool spans_follow(const struct node *node, const struct node *next);
void spans_absorb(struct node *node, struct node *next);

/* A live span becomes a cached one and joins its neighbours. */
void spans_cache(struct node *node);

/* While its pages are given back a span is of neither kind, and not retained: of a cached one the last `span` bytes, or
 * a live one. Then it is purged and joins its neighbours; gives what it has become. */
struct node *spans_purge_begin(struct node *node, size_t span);
struct node *spans_purge_end(struct node *node, bool zeroed);
void spans_return(uintptr_t start, size_t span, bool zeroed); /* the same of one that had left the tree */
void spans_purge_undo(void); /* of all of them: in a child of fork, the threads that did it are gone */

/* The oldest retained span; and its age, UINT64_MAX: there is none. The age may be asked for without the lock. */
struct node *spans_oldest(void);
uint64_t spans_oldest_stamp(void);

size_t spans_purged(void); /* bytes of all purged spans together, without gaps */

/* The tree itself. */
struct node *spans_root(void);

bool spans_are_valid(void);

#endif
