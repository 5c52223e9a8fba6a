#include "spanbins.h"
#include "config.h"

#define BINS  320 /* for lengths below 2^54 bytes */
#define TRIES 8   /* looks at spans of the request's own bin */

static struct bins {
    uint64_t used[BINS / 64];
    struct node *first[BINS];
} sets[SPANBINS];

_Static_assert(sizeof((struct node *)NULL)->bins == SPANBINS * sizeof(struct bin_place), "a place in each set");

/* Lengths below eight pages have a bin each. */
static unsigned bin_of(size_t length) {
    size_t pages = length / (4 * KIB);
    if (pages < 8)
        return (unsigned)pages;
    unsigned octave = 63 - (unsigned)__builtin_clzll(pages);
    return (octave - 2) * 8 + (unsigned)(pages >> (octave - 3)) % 8;
}

static unsigned next_used(const struct bins *bins, unsigned bin) {
    for (unsigned word = bin / 64, from = bin % 64; word < BINS / 64; word++, from = 0) {
        uint64_t used = bins->used[word] >> from << from;
        if (used != 0)
            return word * 64 + (unsigned)__builtin_ctzll(used);
    }
    return BINS;
}

void spanbins_add(enum spanbins set, struct node *node, size_t length) {
    struct bins *bins = &sets[set];
    unsigned bin = bin_of(length);
    struct bin_place *place = &node->bins[set];
    struct node *next = bins->first[bin];
    *place = (struct bin_place){.next = next, .length = length};
    if (next != NULL)
        next->bins[set].prev = node;
    bins->first[bin] = node;
    bins->used[bin / 64] |= UINT64_C(1) << bin % 64;
}

void spanbins_remove(enum spanbins set, struct node *node) {
    struct bin_place *place = &node->bins[set];
    if (place->length == 0)
        return;
    struct bins *bins = &sets[set];
    unsigned bin = bin_of(place->length);
    place->length = 0;
    *(place->prev == NULL ? &bins->first[bin] : &place->prev->bins[set].next) = place->next;
    if (place->next != NULL)
        place->next->bins[set].prev = place->prev;
    if (bins->first[bin] == NULL)
        bins->used[bin / 64] &= ~(UINT64_C(1) << bin % 64);
}

struct node *spanbins_find(enum spanbins set, size_t length) {
    const struct bins *bins = &sets[set];
    unsigned bin = bin_of(length);
    struct node *node = bins->first[bin];
    for (unsigned tries = 0; node != NULL && tries < TRIES; tries++, node = node->bins[set].next)
        if (node->bins[set].length >= length)
            return node;
    unsigned above = next_used(bins, bin + 1);
    return above < BINS ? bins->first[above] : NULL;
}

bool spanbins_are_valid(enum spanbins set, size_t *count) {
    const struct bins *bins = &sets[set];
    *count = 0;
    for (unsigned bin = 0; bin < BINS; bin++) {
        const struct node *prev = NULL;
        for (const struct node *node = bins->first[bin]; node != NULL; node = node->bins[set].next) {
            const struct bin_place *place = &node->bins[set];
            if (place->prev != prev || place->length == 0 || bin_of(place->length) != bin)
                return false;
            prev = node;
            ++*count;
        }
        if ((prev != NULL) != (bins->used[bin / 64] >> bin % 64 & 1))
            return false;
    }
    return true;
}
