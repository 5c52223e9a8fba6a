#include "spanbins.h"
#include "config.h"

#define TRIES 8 /* looks at spans of the request's own list */

/* Lengths below eight pages have a list each. */
static unsigned bin_of(size_t length) {
    size_t pages = length / (4 * KIB);
    if (pages < 8)
        return (unsigned)pages;
    unsigned octave = 63 - (unsigned)__builtin_clzll(pages);
    return (octave - 2) * 8 + (unsigned)(pages >> (octave - 3)) % 8;
}

static unsigned next_used(const struct spanbins *bins, unsigned bin) {
    for (unsigned word = bin / 64, from = bin % 64; word < SPANBINS / 64; word++, from = 0) {
        uint64_t used = bins->used[word] >> from << from;
        if (used != 0)
            return word * 64 + (unsigned)__builtin_ctzll(used);
    }
    return SPANBINS;
}

void spanbins_add(struct spanbins *bins, struct node *node, size_t length) {
    unsigned bin = bin_of(length);
    struct bin_place *place = &node->bins[bins->which];
    struct node *next = bins->first[bin];
    *place = (struct bin_place){.next = next, .length = length};
    if (next != NULL)
        next->bins[bins->which].prev = node;
    bins->first[bin] = node;
    bins->used[bin / 64] |= UINT64_C(1) << bin % 64;
}

void spanbins_remove(struct spanbins *bins, struct node *node) {
    struct bin_place *place = &node->bins[bins->which];
    if (place->length == 0)
        return;
    unsigned bin = bin_of(place->length);
    place->length = 0;
    *(place->prev == NULL ? &bins->first[bin] : &place->prev->bins[bins->which].next) = place->next;
    if (place->next != NULL)
        place->next->bins[bins->which].prev = place->prev;
    if (bins->first[bin] == NULL)
        bins->used[bin / 64] &= ~(UINT64_C(1) << bin % 64);
}

struct node *spanbins_find(const struct spanbins *bins, size_t length) {
    unsigned bin = bin_of(length);
    struct node *node = bins->first[bin];
    for (unsigned tries = 0; node != NULL && tries < TRIES; tries++, node = node->bins[bins->which].next)
        if (node->bins[bins->which].length >= length)
            return node;
    unsigned above = next_used(bins, bin + 1);
    return above < SPANBINS ? bins->first[above] : NULL;
}

bool spanbins_are_valid(const struct spanbins *bins, size_t *count) {
    *count = 0;
    for (unsigned bin = 0; bin < SPANBINS; bin++) {
        const struct node *prev = NULL;
        for (const struct node *node = bins->first[bin]; node != NULL; node = node->bins[bins->which].next) {
            const struct bin_place *place = &node->bins[bins->which];
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
