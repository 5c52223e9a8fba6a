/*
 * Spans by length: lists of those of about one length, eight for each doubling as the size classes, the newest first.
 * Coming, going and finding take a bounded number of steps. Good fit: of the request's own list the first of a few that
 * is long enough, else the first of the next list. A node may be in several such sets, by what length its owner likes:
 * `which` is its place for this one. Their owner locks them.
 */
#ifndef SPANBINS_H
#define SPANBINS_H

#include "spantree.h"

#define SPANBINS 320 /* lengths below 2^54 bytes */

struct spanbins {
    unsigned which; /* constant */
    uint64_t used[SPANBINS / 64];
    struct node *first[SPANBINS];
};

void spanbins_add(struct spanbins *bins, struct node *node, size_t length);

/* If it is there. */
void spanbins_remove(struct spanbins *bins, struct node *node);

/* One whose length is `length` or more; NULL: there is none, but perhaps among those of the same list. */
struct node *spanbins_find(const struct spanbins *bins, size_t length);

/* Whether every node is in its list. *count: how many there are. */
bool spanbins_are_valid(const struct spanbins *bins, size_t *count);

#endif
