/*
 * Size <-> class. 16-byte steps to 256 bytes, then eight classes for each doubling to 64 KiB, so that power-of-two
 * sizes have a class of their own and no block above 256 bytes wastes more than a ninth.
 */
#ifndef SIZECLASS_H
#define SIZECLASS_H

#include "config.h"

struct sizeclass {
    uint32_t size;       /* bytes of a block */
    uint32_t reciprocal; /* (offset * reciprocal) >> 32 == offset / size for every offset in a unit */
    uint32_t blocks;     /* in a slab */
};

extern const struct sizeclass sizeclasses[CLASSES];

/* Class by (size + 15) / 16 for sizes to TINY_MAX, and by (size - 1) / 128 for those above, to SMALL_MAX. */
extern const uint8_t sizeclass_of_tiny[TINY_MAX / 16 + 1];
extern const uint8_t sizeclass_of_small[SMALL_MAX / 128];

/* The class of a request of `size` bytes, at most SMALL_MAX; 0 is served as 1. */
INLINE unsigned sizeclass_of(size_t size) {
    return size <= TINY_MAX ? sizeclass_of_tiny[(size + 15) / 16] : sizeclass_of_small[(size - 1) / 128];
}

/* The smallest class that holds `size` and whose every block is a multiple of `alignment` (a power of two); both are
 * at most SMALL_MAX. Where classes are closer than the alignment, each multiple of it is one; where they are not, all
 * of them are multiples of it. */
INLINE unsigned sizeclass_of_aligned(size_t size, size_t alignment) {
    return sizeclass_of(round_up(max_size(size, 1), alignment));
}

/* Whether there is such a class for a block of `size` bytes with room for `room`. What is not requested of a block must
 * fit a word, which SMALL_MAX does not. */
INLINE bool sizeclass_can_align(size_t size, size_t room, size_t alignment) {
    return room <= SMALL_MAX && alignment <= (size == 0 ? SMALL_MAX / 2 : SMALL_MAX);
}

/* What a block for a request of `size` bytes, at most SMALL_MAX, holds. */
INLINE size_t sizeclass_capacity(size_t size) {
    return sizeclasses[sizeclass_of(size)].size;
}

INLINE bool sizeclass_is_tiny(unsigned class) {
    return class < TINY_CLASSES;
}

#endif
