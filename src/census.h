/*
 * Counting the heap: every mapping of ours, byte by byte, by what it is good for. One slab or LARGE mapping at a time,
 * each as it stands at one instant; no lock is held in between, nor by the callers.
 *
 * Law: the kinds of struct cadastre_memory sum to its total; `other` is what was found mapped and not counted.
 */
#ifndef CENSUS_H
#define CENSUS_H

#include "arenas.h"
#include "cadastre.h"

/* Room to count in, of the caller's, as a small stack has none: indeterminate before and after. */
#define CENSUS_PAGES 2048 /* 8 MiB of pages of 4 KiB, the smallest there are */
struct census_room {
    unsigned char pages[CENSUS_PAGES];
    struct walk_room walk;
    struct cadastre_arena_stats arena;
};

/* One arena's figures; and without those that take looking at each of its slabs, zero here: slabs, mapped, classes. */
void census_arena(struct census_room *room, unsigned index, struct cadastre_arena_stats *stats);
void census_arena_counters(unsigned index, struct cadastre_arena_stats *stats);

/* All figures that are not an arena's own; and with `resident` not NULL what of the mapped bytes is resident. */
void census_all(struct census_room *room, struct cadastre_stats *stats, struct cadastre_memory *resident);

#endif
