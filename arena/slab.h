/*
 * A slab: one unit of a zone, carved into blocks of one class. What is known of its blocks stands outside of them, in
 * cells of the zone's header:
 *
 *   state, a byte per block    0          free, and untouched since the kernel zeroed it
 *                              1          free, was used
 *                              2..254     live, capacity less requested size is state - 2
 *                              255        live, that difference is in the slack word
 *   slack, a word per block    only in classes above STATE_SLACK_MAX bytes
 *   taken, a bit per block     set from the refill that takes the block out until the flush that gives it back
 *
 * The state is the register: malloc and free write it, one relaxed store each, whatever the thread caches do. The bit
 * says only whether the block is in the slab or somewhere above it. Law: free == the number of clear bits; a block
 * whose bit is clear is not live.
 */
#ifndef SLAB_H
#define SLAB_H

#include "directory.h"
#include "sizeclass.h"

#define STATE_UNTOUCHED 0
#define STATE_USED      1
#define STATE_LIVE      2 /* and above */
#define STATE_WIDE      255
#define STATE_SLACK_MAX ((size_t)(STATE_WIDE - 1 - STATE_LIVE))

typedef _Atomic uint16_t slack_word;

enum slab_status { SLAB_IDLE, SLAB_DIRTY, SLAB_PURGING, SLAB_CARVED };

/* All under the arena's lock; base is constant. */
struct slab {
    ALIGNED(64) struct slab *next; /* in a list of the arena's, by status: dirty, or partly free */
    struct slab *prev;
    state_byte *states;
    uint64_t *taken;
    char *base;     /* the first block */
    uint64_t stamp; /* when it became dirty */
    uint16_t blocks;
    uint16_t free;
    uint16_t hint;     /* no word of `taken` before this one has a clear bit */
    uint16_t free_min; /* while `free` is not less, nor more than free_max, it stays in the list that it is in */
    uint16_t free_max;
    uint8_t class;
    uint8_t bucket; /* which of its class's lists it is in; BUCKET_NONE while full */
    uint8_t status;
};

/* What magazines hold and batches pass: a free block and where its state stands. */
struct entry {
    void *block;
    state_byte *state;
};

/* Freed blocks of one slab that have their bits in one word of `taken`, and so their states in one line. */
struct bundle {
    uintptr_t line;        /* the address of that line */
    uintptr_t word;        /* slab_word_at */
    _Atomic uint64_t bits; /* written by one thread; atomic for the child of fork */
};

/* Which word that is: the slab's unit, its class, and the number of the word. */
#define WORD_CLASS_SHIFT  6
#define WORD_NUMBER(word) ((word) & (((uintptr_t)1 << WORD_CLASS_SHIFT) - 1))
#define WORD_CLASS(word)  (unsigned)(((word) & (UNIT_SIZE - 1)) >> WORD_CLASS_SHIFT)

INLINE uintptr_t slab_word_at(uintptr_t address, unsigned class, size_t index) {
    return (address & ~(uintptr_t)(UNIT_SIZE - 1)) | (uintptr_t) class << WORD_CLASS_SHIFT | index / 64;
}

/* ------------------------------------------------------------------------------------- from an address */
INLINE uintptr_t zone_base(uintptr_t address) {
    return address & ~(uintptr_t)(ZONE_SPAN - 1);
}

/* The index of the block that `address` lies in. */
INLINE size_t slab_index_at(const struct slab_line *line, uintptr_t address) {
    return (address & (UNIT_SIZE - 1)) * load_relaxed(&line->reciprocal) >> 32;
}

INLINE unsigned slab_arena(const struct slab_line *line) {
    return OWNER_ARENA(load_relaxed(&line->owner));
}

/* Of the slab that an address lies in; ARENA_NONE: in none. */
INLINE unsigned slab_arena_at(uintptr_t address) {
    const struct slab_line *line = directory_find(address);
    return load_relaxed(&line->reciprocal) == 0 ? ARENA_NONE : slab_arena(line);
}

INLINE unsigned slab_class(const struct slab_line *line) {
    return OWNER_CLASS(load_relaxed(&line->owner));
}

INLINE size_t slab_block_size(const struct slab_line *line) {
    return sizeclasses[slab_class(line)].size;
}

/*
 * The state of the live block that starts at `address`, in this leaf and unit; false: there is none. The low half of
 * the product tells whether the division is exact (Lemire, Kaser, Kurz 2019, "Faster remainder by direct computation");
 * in a unit that is not carved it never is, as the reciprocal is 0. In the rest behind the last block the state is
 * padding: 0. For the hit path of free, which has no use for the line's address: OPAQUE as in tcache_pop.
 */
INLINE bool slab_find_live_in(struct leaf *leaf, size_t *unit, uintptr_t address, state_byte **state) {
    uint32_t reciprocal = load_acquire(&leaf->lines[*unit].reciprocal); /* the states were written before it */
    uint64_t product = (address & (UNIT_SIZE - 1)) * (uint64_t)reciprocal;
    if (UNLIKELY((uint32_t)product >= reciprocal))
        return false;
    OPAQUE(*unit);
    *state = load_relaxed(slab_states(&leaf->lines[*unit])) + (product >> 32);
    OPAQUE(*unit);
    return LIKELY(load_relaxed(*state) >= STATE_LIVE);
}

/* The same, and its line. */
INLINE bool slab_find_live(uintptr_t address, struct slab_line **line, state_byte **state) {
    struct leaf *leaf = directory_leaf(address);
    size_t unit = directory_unit(address);
    bool is_live = slab_find_live_in(leaf, &unit, address, state);
    *line = &leaf->lines[unit];
    return is_live;
}

/* ------------------------------------------------------------------------------------ sizes and states */
INLINE size_t slab_slack_offset(uint32_t blocks) {
    return round_up(blocks, 64);
}

/* Where a SMALL block's slack word stands, from its state alone: states start on a cell, and are one line at most. */
INLINE slack_word *slab_small_slack(state_byte *state) {
    uintptr_t address = (uintptr_t)state;
    return (slack_word *)(round_down(address, 64) + 64) + address % 64;
}

/* For a slack that a state has no room for. */
void slab_set_slack(const struct slab_line *line, state_byte *state, size_t slack);

/* Makes the block live with `size` requested bytes, or changes that size: one store decides. */
INLINE void slab_set_size(const struct slab_line *line, state_byte *state, size_t size) {
    size_t slack = slab_block_size(line) - size;
    if (LIKELY(slack <= STATE_SLACK_MAX))
        store_release(state, (uint8_t)(STATE_LIVE + slack));
    else
        slab_set_slack(line, state, slack);
}

/* The requested size of a live block. */
size_t slab_size_of(const struct slab_line *line, const state_byte *state);

/* -------------------------------------------------------------------------------- under the arena's lock */
size_t slab_cells(unsigned class); /* that its states, slack words and bits take */

/*
 * Carves `slab`, whose line is `line`, into blocks of `class`, its metadata in `cells`. blocks_zero: the unit's pages
 * read as zero; cells_zero: so do the cells (then they are left untouched as far as can be).
 */
void slab_carve(struct slab *slab, struct slab_line *line, unsigned class, uint16_t arena, void *cells,
                bool blocks_zero, bool cells_zero);

/* The opposite, once every block is free. Gives the cells back to the caller. */
void *slab_uncarve(struct slab *slab, struct slab_line *line);

/* Takes up to `want` free blocks, lowest first, into end[-1], end[-2], ...; how many it took. */
size_t slab_take(struct slab *slab, struct entry *end, size_t want);

/* Puts a taken block back. false, and nothing done: it is there already (freed twice). */
INLINE bool slab_give(struct slab *slab, const struct entry *entry) {
    size_t index = (size_t)(entry->state - slab->states);
    size_t word = index / 64;
    uint64_t bit = UINT64_C(1) << (index % 64);
    /* Freed twice by racing threads, the block may be in a slab that has been carved anew since. */
    bool is_ours = index < slab->blocks && slab->base + index * sizeclasses[slab->class].size == entry->block;
    if (UNLIKELY(!is_ours || (slab->taken[word] & bit) == 0))
        return false;
    if (PLANTED_DELAY)
        store_relaxed(entry->state, STATE_USED);
    slab->taken[word] &= ~bit;
    slab->free++;
    if (word < slab->hint)
        slab->hint = (uint16_t)word;
    return true;
}

/* Puts taken blocks of one word back; gives those that were taken, as the others are there already. */
INLINE uint64_t slab_give_word(struct slab *slab, size_t word, uint64_t bits) {
    uint64_t given = bits & slab->taken[word];
    if (PLANTED_DELAY)
        for (uint64_t rest = given; rest != 0; rest &= rest - 1)
            store_relaxed(&slab->states[word * 64 + (size_t)__builtin_ctzll(rest)], STATE_USED);
    slab->taken[word] &= ~given;
    slab->free = (uint16_t)(slab->free + __builtin_popcountll(given));
    if (word < slab->hint)
        slab->hint = (uint16_t)word;
    return given;
}

/* Where all blocks are back: those that are live all the same, as they were freed twice at once and handed out again in
 * between, are taken again; how many. */
size_t slab_retake_live(struct slab *slab);

/* Copies the states of its blocks from `first` up to `end`, and the slack words if its class has them. */
void slab_copy_register(const struct slab *slab, uint32_t first, uint32_t end, state_byte *states, slack_word *slacks);

/* Whether the law above holds. */
bool slab_is_valid(const struct slab *slab, const struct slab_line *line);

/* --------------------------------------------------------------------------------------- lists of slabs */
struct slab_list {
    struct slab *first;
    struct slab *last;
};

void slab_list_append(struct slab_list *list, struct slab *slab);
void slab_list_prepend(struct slab_list *list, struct slab *slab);
void slab_list_remove(struct slab_list *list, struct slab *slab);

_Static_assert(UNIT_SIZE / BLOCK_ALIGN / 64 <= 1 << WORD_CLASS_SHIFT, "a word's number fits");
_Static_assert(CLASSES << WORD_CLASS_SHIFT <= UNIT_SIZE, "and so does its class");
_Static_assert(sizeof(slack_word) == 2, "an atomic of the width of what it holds");
_Static_assert(UNIT_SIZE / (TINY_MAX + 1) <= 64, "the states of a SMALL slab are one line: slab_small_slack");
/* The widest slack is that of a SMALL_MAX block shrunk to one byte, as none is for a size of 0. */
_Static_assert(SMALL_MAX - 1 <= UINT16_MAX, "a slack fits its word");

#endif
