/*
 * A tree of spans of addresses, disjoint, ordered by where they start. It finds a span by address, the lowest warm one
 * that is long enough, and the lowest run of free ones that is, in one descent each. CACHED (warm) and
 * PURGED spans are free, and make a run where one starts at the end of the other.
 *
 * A treap: a search tree by address, a heap by a hash of the address, so that its shape is that of a random tree. As
 * its nodes know their neighbours, what changes is one place and as much of the way up as learns something new. Its
 * owner locks it.
 */
#ifndef SPANTREE_H
#define SPANTREE_H

#include "base.h"

enum large_kind {
    LARGE_CACHED, /* this and the next are free */
    LARGE_PURGED,
    LARGE_BUSY,    /* on its way from CACHED to PURGED */
    LARGE_HELD,    /* freed, and kept out of use: large_hold */
    LARGE_RETIRED, /* freed, and kept by a thread: large_retire */
    LARGE_LIVE,
};

/* From its first to its last address: the longest warm span, the longest run, and the runs at its ends. */
struct subtree {
    uintptr_t low, high;
    size_t warm, run, prefix, suffix;
};

struct node {
    struct node *up;
    struct node *left;
    struct node *right;
    struct node *prev; /* the neighbours by address */
    struct node *next;
    _Atomic uintptr_t start; /* atomic, as the kind: may be read without the lock, even when the node is a spare */
    size_t span;
    struct subtree all;
    _Atomic uint8_t kind; /* from and to a free kind under the owner's lock only */
    /* The owner's own. */
    bool retained;
    bool guarded; /* its mapping is a page longer on either side */
    _Atomic size_t size;
    struct node *older; /* in one of the owner's lists */
    struct node *newer;
    uint64_t stamp;
};

void spantree_insert(struct node **root, struct node *node);
void spantree_insert_after(struct node **root, struct node *prev, struct node *node); /* its neighbour is known */
void spantree_remove(struct node **root, struct node *node);

/* After a change of the node's kind or span. */
void spantree_refresh(struct node *node);

/* The last node that starts at or below `address`; the first at or above it; the one that starts there. NULL: none. */
struct node *spantree_find_floor(struct node *root, uintptr_t address);
struct node *spantree_find_ceiling(struct node *root, uintptr_t address);
struct node *spantree_find_exact(struct node *root, uintptr_t address);

/* The lowest warm span that is `span` bytes long or longer. */
struct node *spantree_find_warm(struct node *root, size_t span);

/* The first span of the lowest run that is. */
struct node *spantree_find_run(struct node *root, size_t span);

/* Whether order, heap and what is known of the subtrees are right. */
bool spantree_is_valid(struct node *root);

#endif
