/*
 * An arena: a lock, the zones that it owns, TINY and SMALL, and for each class the slabs with free blocks. Blocks leave
 * and return in batches; single blocks are the thread caches' business.
 *
 * Functions named _locked run under the arena's lock, taken with arena_lock; the others take it themselves, and make
 * their system calls without it.
 */
#ifndef ARENA_H
#define ARENA_H

#include "lock.h"
#include "zones.h"

/* A class's partly free slabs by quarters of occupancy: refills take from the fullest. */
#define BUCKETS     4
#define BUCKET_NONE 0xff

struct partial {
    struct slab *spare[CLASSES]; /* the dirty slab that was the class's last; NULL if it is no longer dirty */
    struct slab_list buckets[CLASSES][BUCKETS];
};

/* Small, so that looking at all of them touches few pages: the lists of partial slabs are apart. */
struct arena {
    ALIGNED(64) struct lock lock;
    uint16_t index;           /* constant */
    atomic_uint threads;      /* that are assigned to it */
    atomic_uint growth_skips; /* tries to grow until the kernel is asked again, after it refused; 0: it did not */
    _Atomic uint64_t oldest;  /* stamp of its oldest dirty slab, UINT64_MAX: none; written under lock */
    struct partial *partial;  /* constant; its contents and the rest under lock */
    struct zones zones;
    struct slab_list dirty[CATEGORIES]; /* oldest first */
    unsigned purges;                    /* under way */
    struct arena_counts {               /* since the start */
        uint64_t refills, refilled;     /* batches that left, and their blocks */
        uint64_t flushes, flushed;      /* that came back; refilled - flushed: blocks that are live or cached */
        uint64_t remote_frees;          /* of flushed, those that threads of other arenas freed */
        uint64_t zones_mapped;
    } counts;
};

void arena_lock(struct arena *arena);
void arena_unlock(struct arena *arena);

/*
 * Takes up to `want` free blocks of `class` into entries[0..], lowest address last, so that a stack of them pops in
 * address order. Less than wanted: the slabs with free blocks are used up. 0: arena_grow, then try again.
 */
size_t arena_refill_locked(struct arena *arena, unsigned class, struct entry *entries, size_t want);

/* Puts blocks of this arena back. Returns how many were there already (freed twice by racing threads); the last of
 * them in *twice. */
size_t arena_flush_locked(struct arena *arena, const struct entry *entries, size_t count, void **twice);

/* The same for bundles. */
size_t arena_flush_bundles_locked(struct arena *arena, const struct bundle *bundles, size_t count, void **twice);

/* Makes room for a slab of `class`: an empty zone of the other category, or a new one of `size` bytes, or if the
 * kernel refuses that, of less. false: there is no memory. Then the next tries are skipped, false at once, since each
 * would cost a dozen system calls; after arena_retry_growth the next asks the kernel once, and goes on if it can. */
bool arena_grow(struct arena *arena, unsigned class, size_t size);
bool arena_skips_growth(struct arena *arena);
void arena_retry_growth(struct arena *arena);

/* Gives the oldest dirty slab and its dirty neighbours, or the whole zone if it is empty, back to the kernel; the
 * bytes, 0 when there are none. */
size_t arena_purge_oldest(struct arena *arena);

/* Gives a wholly empty zone back to the kernel; false: there is none. */
bool arena_release_zone(struct arena *arena);

/* Gives back the idle units at the ends of zones, which are shorter from then on: for when the kernel refuses, as they
 * cost addresses only. false: there is none. */
bool arena_shorten_zones(struct arena *arena);

/* A zone as it stood at one instant. */
struct zone_view {
    uintptr_t start; /* 0: none */
    size_t size;
    unsigned first_unit;
    unsigned units;
    enum category category;
    unsigned removals; /* of zones from the arena, so far: while it has not changed, the zone is there */
};

/* The lowest zone of this arena that starts at `from` or above. */
struct zone_view arena_next_zone(struct arena *arena, uintptr_t from);

/* A unit's register as it stood at one instant: of its blocks from `first` up to `end`, which are all if there is room
 * for them. */
struct slab_view {
    uintptr_t base;
    enum slab_status status;
    unsigned class; /* this and the next five: 0 if it is not carved */
    uint32_t block_size;
    uint32_t blocks;
    uint32_t free; /* neither live nor in a thread cache */
    uint32_t first;
    uint32_t end;
    uint32_t room; /* for how many blocks there is that in what follows: constant; from `first` on */
    uint64_t *taken;
    state_byte *states;
    slack_word *slacks;
};

/* Room for all blocks of any slab. */
struct slab_room {
    uint64_t taken[UNIT_SIZE / BLOCK_ALIGN / 64];
    state_byte states[UNIT_SIZE / BLOCK_ALIGN];
    slack_word slacks[UNIT_SIZE / (STATE_SLACK_MAX + 1) + 1];
};

INLINE struct slab_view slab_view_in(struct slab_room *room) {
    return (struct slab_view){
        .room = UNIT_SIZE / BLOCK_ALIGN, .taken = room->taken, .states = room->states, .slacks = room->slacks};
}

/* Copies the register of a unit of a zone as arena_next_zone gave it, from a block of it on, whose number is a multiple
 * of 64. false: the zone has left the arena since, or changed its category. */
bool arena_view_slab(struct arena *arena, const struct zone_view *zone, unsigned unit, uint32_t first,
                     struct slab_view *view);

/* The requested size of the block that starts at `address`. false: it is not live, or not this arena's. */
bool arena_find_live(struct arena *arena, uintptr_t address, size_t *size);

bool arena_is_valid(struct arena *arena);

/* In the child of fork: the lock is free, and what vanished threads were purging is idle. */
void arena_reset_lock(struct arena *arena);

/* What an arena has, and how it was used; for statistics. Its slabs are seen one by one, by arena_view_slab. */
struct arena_totals {
    size_t zones;
    size_t mapped;
    size_t mapped_peak;
    struct arena_counts counts;
    struct lock_counts lock;
};
void arena_total(struct arena *arena, struct arena_totals *totals);

#endif
