/*
 * The zones of one arena: all of them in a tree by address, and in lists those that growth, purging and release ask
 * for, so that each of these takes a bounded number of steps, however many zones there are.
 *
 * Laws: every zone is in the tree, once. It is in the list ROOMY of its category exactly while it has an idle unit, and
 * in EMPTY while nothing in it is carved or being purged; whoever changes one of these settles the zone.
 *
 * The tree is a treap: a search tree by address, a heap by a hash of it, so that it is about as deep as a random one.
 *
 * All under the arena's lock; no system calls.
 */
#ifndef ZONES_H
#define ZONES_H

#include "zone.h"

struct zones {
    struct zone *root;
    struct zone_list {
        struct zone *first;
        struct zone *last;
    } lists[ZONE_LISTS][CATEGORIES]; /* roughly by address: one below the first comes before it, others at the end */
    unsigned count;
    unsigned removals; /* so far */
    size_t mapped;     /* bytes of them all, and the most there were */
    size_t mapped_peak;
};

/* A new one comes first in its lists: the arena has grown because no other would do. */
void zones_insert(struct zones *zones, struct zone *zone);
void zones_remove(struct zones *zones, struct zone *zone);

/* After its units have changed; and after their number has, by so many. */
void zones_settle(struct zones *zones, struct zone *zone);
void zones_resize(struct zones *zones, struct zone *zone, int units);

/* NULL: there is none. */
INLINE struct zone *zones_first(const struct zones *zones, enum zone_lists list, enum category category) {
    return zones->lists[list][category].first;
}

/* To the end of a list that it is in. */
void zones_postpone(struct zones *zones, enum zone_lists list, struct zone *zone);

/* The lowest at `from` or above; NULL: there is none. */
struct zone *zones_find(const struct zones *zones, uintptr_t from);

/* Whether the laws hold. */
bool zones_are_valid(const struct zones *zones);

#endif
