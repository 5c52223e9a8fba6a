/*
 * Which addresses are ours: a map of two levels from any address to the line of the slab that it lies in. What is not
 * in a slab of ours (foreign, stack, NULL, LARGE) finds a line that is all zero.
 *
 * The lines stand here and not in the zones' headers, so that free reads nothing of a zone but a state; and so that a
 * wrong free of an address whose zone is gone reads a zero line, and no unmapped page.
 */
#ifndef DIRECTORY_H
#define DIRECTORY_H

#include "config.h"

typedef _Atomic uint8_t state_byte;
struct node;

/*
 * What free must know of a slab, read without a lock: this and where the states are. All zero while the unit is not
 * carved. Written under the lock of the arena that owns the unit.
 */
struct slab_line {
    _Atomic uint32_t reciprocal; /* of the block size: (offset * reciprocal) >> 32 is the block's index */
    _Atomic uint32_t owner;      /* OWNER(arena, class) */
};

/* Arena and class in one word: where the magazine for them stands in a thread cache, whose rows are arenas. */
#define OWNER_ARENA_SHIFT   12
#define OWNER_CLASS_SHIFT   5
#define OWNER(arena, class) ((uint32_t)(arena) << OWNER_ARENA_SHIFT | (uint32_t)(class) << OWNER_CLASS_SHIFT)
#define OWNER_ARENA(owner)  ((owner) >> OWNER_ARENA_SHIFT)
#define OWNER_LARGE         UINT32_MAX /* not a slab: a LARGE block starts in this unit */
#define OWNER_CLASS(owner)  (((owner) & (OWNER(1, 0) - 1)) >> OWNER_CLASS_SHIFT)

/* A leaf holds the lines of 4 GiB of addresses: their units are numbered by the upper half of a 32-bit word. The states
 * stand apart, so that one scaled index does for both. */
#define LEAF_SHIFT     32
#define LEAF_LINES     ((size_t)1 << (LEAF_SHIFT - UNIT_SHIFT))
#define LEAF_COUNT     ((uintptr_t)1 << (ADDRESS_BITS - LEAF_SHIFT))
#define LEAF_PLACES    ((size_t)1 << (LEAF_SHIFT - ZONE_SHIFT)) /* for zones */
#define LEAF_PAGES_MAX (LEAF_LINES * sizeof(struct slab_line) / (4 * KIB))

/* What is known of a page of lines, and of the page of their states, so that both can go back to the kernel. */
struct leaf_page {
    _Atomic uint8_t zones; /* that stand in its addresses; LEAF_PAGE_PURGING: it goes back at this moment */
    atomic_bool is_used;   /* lines were written since it came from the kernel; a hint */
};
#define LEAF_PAGE_PURGING UINT8_MAX

struct leaf {
    struct slab_line lines[LEAF_LINES];
    state_byte *_Atomic states[LEAF_LINES];   /* of the first block */
    _Atomic uint64_t holes[LEAF_PLACES / 64]; /* a bit for each place where a zone stood, and none does now */
    struct leaf_page pages[LEAF_PAGES_MAX];
};

/* A leaf is noted by its distance from `none`, which is all zero and stays so: where no leaf is, there `none` is found,
 * and no test is needed. */
extern struct directory {
    _Atomic ptrdiff_t leaves[LEAF_COUNT];
    struct leaf none;
} directory;

/* The leaf of `address`, and the number in it of the unit that it lies in. */
INLINE struct leaf *directory_leaf(uintptr_t address) {
    uintptr_t slot = address >> LEAF_SHIFT;
    if (UNLIKELY(slot >= LEAF_COUNT))
        return &directory.none;
    return (struct leaf *)((char *)&directory.none + load_relaxed(&directory.leaves[slot]));
}

INLINE size_t directory_unit(uintptr_t address) {
    return (uint32_t)address >> UNIT_SHIFT;
}

/* The line of the unit that `address` lies in. */
INLINE struct slab_line *directory_find(uintptr_t address) {
    return &directory_leaf(address)->lines[directory_unit(address)];
}

/* Where a line's states are noted. */
INLINE state_byte *_Atomic *slab_states(const struct slab_line *line) {
    return (state_byte * _Atomic *)(line + LEAF_LINES);
}

/* Makes sure that there is a leaf for an address; false: no memory. Makes a system call: no lock held. */
bool directory_add(uintptr_t address);

/*
 * A zone enters once it is mapped, before a line of it is written, and leaves when it is unmapped. false: there is no
 * memory for its lines, or their page goes back to the kernel at this moment, and a place below directory_page_start
 * will do. Both make system calls.
 */
bool directory_enter(uintptr_t zone);
void directory_leave(uintptr_t zone);
uintptr_t directory_page_start(uintptr_t address); /* of the addresses whose lines share a page */

/* Gives back the pages of lines of addresses in [start, end), where no zone stands and nothing is noted any more. Makes
 * system calls. */
void directory_purge(uintptr_t start, uintptr_t end);

/* Where a zone may be put: the highest place that one has left; 0: there is none. Nobody else is given the same. */
uintptr_t directory_take_hole(void);
void directory_add_hole(uintptr_t zone);

/* In the child of fork: the pages that vanished threads were giving back are there. */
void directory_reset(void);

/* The next leaf from *slot on, which is 0 at first; NULL: there are no more. *size: of each, in bytes. */
const struct leaf *directory_next_leaf(uintptr_t *slot, size_t *size);

/*
 * A LARGE block is noted in the line of the unit that it starts in, with a mark and its node in place of the states: no
 * two blocks longer than a unit start in one. Where there is no leaf it is not noted, and not found; nor where
 * the page of the line went back to the kernel just then. A node is forgotten only where none but it is noted. Under
 * the LARGE lock, but for finding, which takes none.
 */
void directory_note_large(uintptr_t start, struct node *node);
void directory_forget_large(uintptr_t start, const struct node *node);
INLINE struct node *directory_find_large(uintptr_t start) {
    const struct slab_line *line = directory_find(start);
    return load_acquire(&line->owner) == OWNER_LARGE ? (struct node *)load_relaxed(slab_states(line)) : NULL;
}

/*
 * A zone is noted in the line of its first unit, which is never carved: whose it is, and how many units it has. By who
 * maps and unmaps it; finding takes no lock.
 */
#define OWNER_ZONE ((uint32_t)1 << 31)
INLINE void directory_note_zone(uintptr_t start, unsigned arena, unsigned units) {
    store_relaxed(&directory_find(start)->owner, OWNER_ZONE | OWNER(arena, 0) | units);
}
INLINE void directory_forget_zone(uintptr_t start) {
    store_relaxed(&directory_find(start)->owner, 0);
}

/* Whether `address` lies in a zone, and whose it is. */
INLINE bool directory_find_zone(uintptr_t address, unsigned *arena) {
    uint32_t owner = load_relaxed(&directory_find(round_down(address, ZONE_SPAN))->owner);
    *arena = OWNER_ARENA(owner & ~OWNER_ZONE);
    return owner != OWNER_LARGE && (owner & OWNER_ZONE) != 0 &&
           (address & (ZONE_SPAN - 1)) >> UNIT_SHIFT < (owner & (OWNER(1, 0) - 1));
}

_Static_assert(ZONE_UNITS < OWNER(1, 0) && OWNER(ARENAS_MAX, 0) <= OWNER_ZONE, "a zone's note is one word");
_Static_assert(sizeof(struct slab_line) == sizeof(state_byte *), "slab_states: the same index in both");
_Static_assert(sizeof(state_byte) == 1, "a state is a byte");
_Static_assert(OWNER(0, CLASSES) <= OWNER(1, 0), "the classes fit a row");
_Static_assert(LEAF_SHIFT >= ZONE_SHIFT, "a zone's lines are in one leaf");
_Static_assert(ZONE_UNITS * sizeof(struct slab_line) <= 4 * KIB, "and on one page of it");

#endif
