/*
 * A tree of spans of addresses, disjoint, ordered by where they start. It finds a span by address, and the lowest one
 * of a kind that is long enough, in one descent each.
 *
 * A treap: a search tree by address, a heap by a hash of the address, so that its shape is that of a random tree. Its
 * owner locks it.
 */
#ifndef SPANTREE_H
#define SPANTREE_H

#include "base.h"

#define SPAN_FITS 2 /* kinds that can be searched for by length: 0 and 1 */

struct node {
    struct node *left;
    struct node *right;
    _Atomic uintptr_t start; /* atomic, as the kind: may be read without the lock, even when the node is a spare */
    size_t span;
    size_t fit[SPAN_FITS]; /* the longest span of kind 0, 1 in this subtree */
    _Atomic uint8_t kind;  /* from and to kind 0 and 1 under the owner's lock only */
    /* The owner's own. */
    bool retained;
    bool guarded; /* its mapping is a page longer on either side */
    _Atomic size_t size;
    struct node *older; /* in one of the owner's lists */
    struct node *newer;
    uint64_t stamp;
};

void spantree_insert(struct node **root, struct node *node);
void spantree_remove(struct node **root, const struct node *node);

/* After a change of the node's kind or span. */
void spantree_refresh(struct node *root, const struct node *node);

/* The last node that starts at or below `address`; the first at or above it; the one that starts there. NULL: none. */
struct node *spantree_find_floor(struct node *root, uintptr_t address);
struct node *spantree_find_ceiling(struct node *root, uintptr_t address);
struct node *spantree_find_exact(struct node *root, uintptr_t address);

/* The lowest of a kind that is `span` bytes long or longer. */
struct node *spantree_find_fit(struct node *root, unsigned kind, size_t span);

/* Whether order, heap and longest spans are right. */
bool spantree_is_valid(struct node *root);

#endif
