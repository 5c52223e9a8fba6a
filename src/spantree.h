/*
 * A tree of spans of addresses, disjoint, ordered by where they start: it finds a span by address, and each knows its
 * neighbours. A treap: a search tree by address, a heap by a hash of the address, so that its shape is that of a random
 * tree; a span whose neighbour is known comes and goes without a descent, in two rotations on average. Its owner locks
 * it.
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

/* A place in a bin of spanbins.h. */
struct bin_place {
    struct node *next;
    struct node *prev;
    size_t length; /* by which it is there; 0: it is not */
};

struct node {
    struct node *up;
    struct node *left;
    struct node *right;
    struct node *prev; /* the neighbours by address */
    struct node *next;
    _Atomic uintptr_t start; /* atomic, as the kind: may be read without the lock, even when the node is a spare */
    size_t span;
    _Atomic uint8_t kind; /* from and to a free kind under the owner's lock only */
    /* The owner's own. */
    bool retained;
    bool guarded;          /* its mapping is longer, by a page before it, ... */
    bool gap;              /* spans.h */
    bool begins_run;       /* spans.h: it is not one run with the free span before it */
    bool sparse;           /* LIVE, and likely beside gaps */
    uint16_t pages_behind; /* ... and by so many behind it */
    _Atomic size_t size;
    struct bin_place bins[3];
    struct node *older; /* in one of the owner's lists */
    struct node *newer;
    uint64_t stamp;
};

void spantree_insert(struct node **root, struct node *node);
void spantree_insert_after(struct node **root, struct node *prev, struct node *node); /* its neighbour is known */
void spantree_remove(struct node **root, struct node *node);

/* The last node that starts at or below `address`; the first at or above it; the one that starts there. NULL: none. */
struct node *spantree_find_floor(struct node *root, uintptr_t address);
struct node *spantree_find_ceiling(struct node *root, uintptr_t address);
struct node *spantree_find_exact(struct node *root, uintptr_t address);

/* Whether order and heap are right. */
bool spantree_is_valid(struct node *root);

#endif
