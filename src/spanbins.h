/*
 * Spans by length, in sets of bins: a bin is a list of those of about one length, eight for each doubling as the
 * size classes, the newest first. Coming, going and finding take a bounded number of steps. Good fit: of the request's
 * own bin the first of a few that is long enough, else the first of the next bin. Their owner locks them.
 */
#ifndef SPANBINS_H
#define SPANBINS_H

#include "spantree.h"

enum spanbins {
    WARM_SPANS, /* cached ones, by their length */
    RUNS,       /* the first of each run, by the run's, but for ... */
    GAPS,       /* ... runs that are one gap */
    SPANBINS
};

void spanbins_add(enum spanbins set, struct node *node, size_t length);

/* If it is there. */
void spanbins_remove(enum spanbins set, struct node *node);

/* One whose length is `length` or more; NULL: there is none, but perhaps among those of the same bin. */
struct node *spanbins_find(enum spanbins set, size_t length);

/* Whether every node is in its bin. *count: how many there are. */
bool spanbins_are_valid(enum spanbins set, size_t *count);

#endif
