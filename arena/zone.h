/*
 * A zone: one mapping on an 8 MiB boundary, of one category, cut into 64 KiB units.
 *
 *   unit 0                 PROT_NONE, so that no overrun of what lies below reaches the header
 *   unit 1 ..              the header: this structure, and the cells with every slab's states
 *   first_unit ..          slabs
 *
 * Law: each unit from first_unit on is in exactly one of: carved, idle, dirty, purging; zero is a part of idle. Dirty
 * units are in a list of the arena's, and count as retained; idle ones cost no memory, or such as the kernel would not
 * take back.
 *
 * Everything below zone_unmap_tail is under the arena's lock.
 */
#ifndef ZONE_H
#define ZONE_H

#include "slab.h"

enum category { TINY, SMALL, CATEGORIES };

/* Lists of the arena's zones (zones.h). */
enum zone_lists { ROOMY, EMPTY, ZONE_LISTS };

#define UNIT_WORDS (ZONE_UNITS / 64)
#define CELL_WORDS ((HEADER_UNITS(ZONE_UNITS) * UNIT_SIZE - CELLS_OFFSET) / CELL_SIZE / 64 + 1)

typedef uint64_t unit_set[UNIT_WORDS];

struct zone {
    uint8_t category; /* changes while the zone is empty */
    uint16_t arena;   /* constant, as the next two */
    uint16_t first_unit;
    uint16_t cells;
    uint16_t units;       /* all of them */
    uint16_t cells_fresh; /* cells from here on were never used: they are zero */
    uint16_t carved;
    uint16_t purging_count;
    struct zone *low; /* in the arena's tree, by address: this and the lists are zones.h's */
    struct zone *high;
    struct zone_place {
        struct zone *next;
        struct zone *prev;
        bool is_in;
    } places[ZONE_LISTS];
    unit_set idle;
    unit_set zero;
    unit_set dirty;
    unit_set purging;
    struct slab_line *lines; /* its part of the directory; constant */
    struct slab slabs[ZONE_UNITS];
    uint64_t cells_taken[CELL_WORDS];
};

_Static_assert(sizeof(struct zone) <= CELLS_OFFSET, "the cells begin after the zone's own fields");

INLINE struct zone *zone_of(const void *inside) {
    return (struct zone *)(zone_base((uintptr_t)inside) + ZONE_GUARD);
}

/* Where the mapping starts, a multiple of ZONE_SPAN; and how long it is. */
INLINE uintptr_t zone_start(const struct zone *zone) {
    return (uintptr_t)zone - ZONE_GUARD;
}

INLINE size_t zone_size(const struct zone *zone) {
    return zone->units * UNIT_SIZE;
}

INLINE unsigned zone_unit_of(const struct zone *zone, const struct slab *slab) {
    return (unsigned)(slab - zone->slabs);
}

INLINE bool unit_set_has(const unit_set set, unsigned unit) {
    return set[unit / 64] >> (unit % 64) & 1;
}

/* Maps a zone of `size` bytes (a power of two from ZONE_SIZE_MIN to ZONE_SPAN); NULL when the kernel refuses. Makes
 * system calls, as does zone_destroy: no lock held. */
struct zone *zone_create(size_t size, uint16_t arena, enum category category);

/* Unmaps a zone that has left its arena. false: the kernel refuses, and the zone stands as it was. */
bool zone_destroy(struct zone *zone);

/* Unmaps `count` units that have left the end of a zone, which stays meanwhile. false: the kernel refuses. */
bool zone_unmap_tail(struct zone *zone, unsigned count);

/* Whether there is room for the cells of one more slab of `class`. */
bool zone_has_cells(const struct zone *zone, unsigned class);

/* Carves the unit of `slab`, or with NULL the lowest idle one, into blocks of `class`; NULL: there is none, or no room
 * for its cells. A dirty slab has left its list before. */
struct slab *zone_carve(struct zone *zone, struct slab *slab, unsigned class);

/* A slab whose blocks are all free becomes a dirty unit. */
void zone_uncarve(struct zone *zone, struct slab *slab);

/* Whether nothing in it is carved or being purged. */
INLINE bool zone_is_empty(const struct zone *zone) {
    return zone->carved == 0 && zone->purging_count == 0;
}

INLINE bool zone_has_idle(const struct zone *zone) {
    return (zone->idle[0] | zone->idle[1]) != 0;
}

size_t zone_dirty_bytes(const struct zone *zone);

/* The run of dirty units around `slab`, PURGE_RUN_UNITS at the most: from *first, the count is the result. */
unsigned zone_dirty_run(const struct zone *zone, const struct slab *slab, unsigned *first);

/* Dirty units that have left their list are on their way to the kernel; and back, idle, as what the kernel made of
 * them. */
void zone_purge_begin(struct zone *zone, unsigned first, unsigned count);
void zone_purge_end(struct zone *zone, unsigned first, unsigned count, bool zeroed);

/* How many units at its end are idle. They can leave the zone, and be unmapped; and come back, if that was refused. */
unsigned zone_idle_tail(const struct zone *zone);
void zone_cut_tail(struct zone *zone, unsigned count);
void zone_restore_tail(struct zone *zone, unsigned count);

bool zone_is_valid(const struct zone *zone);

#endif
