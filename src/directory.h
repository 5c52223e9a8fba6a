/*
 * Which addresses are ours: a map of two levels from any address to the line of the slab that it lies in. What is not
 * in a slab of ours (foreign, stack, NULL, LARGE) finds no line, or one that is all zero.
 *
 * The lines stand here and not in the zones' headers, so that free reads nothing of a zone but a state; and so that a
 * wrong free of an address whose zone is gone reads a zero line, and no unmapped page.
 */
#ifndef DIRECTORY_H
#define DIRECTORY_H

#include "config.h"

typedef _Atomic uint8_t state_byte;

/*
 * What free must know of a slab, read without a lock; all zero while the unit is not carved. Written under the lock of
 * the arena that owns the unit.
 */
struct slab_line {
    _Atomic uint32_t reciprocal; /* of the block size: (offset * reciprocal) >> 32 is the block's index */
    _Atomic uint32_t owner;      /* OWNER(arena, class) */
    state_byte *_Atomic states;  /* of the first block */
};

/* Arena and class in one word, so that free compares the one and uses the other with one load. The class is scaled by
 * the size of a magazine, which is what free does with it. */
#define OWNER_ARENA_SHIFT   16
#define OWNER_CLASS_SHIFT   5
#define OWNER(arena, class) ((uint32_t)(arena) << OWNER_ARENA_SHIFT | (uint32_t)(class) << OWNER_CLASS_SHIFT)
#define OWNER_ARENA(owner)  ((owner) >> OWNER_ARENA_SHIFT)
#define OWNER_CLASS(owner)  (((owner)&0xffff) >> OWNER_CLASS_SHIFT)

/* A leaf holds the lines of 512 MiB of addresses. */
#define LEAF_SHIFT 29
#define LEAF_LINES ((size_t)1 << (LEAF_SHIFT - UNIT_SHIFT))
#define LEAF_COUNT ((uintptr_t)1 << (ADDRESS_BITS - LEAF_SHIFT))

extern struct slab_line *_Atomic directory[LEAF_COUNT];

/* The line of the unit that `address` lies in; NULL where no zone ever was. */
INLINE struct slab_line *directory_find(uintptr_t address) {
    uintptr_t slot = address >> LEAF_SHIFT;
    if (UNLIKELY(slot >= LEAF_COUNT))
        return NULL;
    struct slab_line *leaf = load_relaxed(&directory[slot]);
    if (UNLIKELY(leaf == NULL))
        return NULL;
    return leaf + (address >> UNIT_SHIFT) % LEAF_LINES;
}

void directory_boot(void);

/* Makes sure that the lines of a zone are there; false: no memory. Makes a system call: no lock held. */
bool directory_add(uintptr_t zone);

_Static_assert(sizeof(struct slab_line) == 16, "four lines to a cache line");
_Static_assert(sizeof(state_byte) == 1, "a state is a byte");
_Static_assert(CLASSES << OWNER_CLASS_SHIFT <= 0xffff, "a scaled class fits half of an owner word");
_Static_assert(LEAF_SHIFT >= ZONE_SHIFT, "a zone's lines are in one leaf");

#endif
