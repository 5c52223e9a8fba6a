/* Zones and slabs: geometry, carving, first fit, what is known to be zero, and the laws under random use. */
#include "zone.h"
#include "os.h"
#include "tap.h"

#define SEED 20240229u

static unsigned seed = SEED;
static unsigned next_random(unsigned below) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

static struct slab_line *line_of(const struct slab *slab) {
    return directory_find((uintptr_t)slab->base);
}

static void geometry(void) {
    struct zone *zone = zone_create(ZONE_SPAN, 3, SMALL);
    size_t slabs = 0;
    while (zone_carve(zone, NULL, CLASSES - 1) != NULL)
        slabs++;
    ok(slabs >= 100, "a full-size zone holds %zu blocks of SMALL's largest size", slabs);
    ok(zone_start(zone) % ZONE_SPAN == 0 && zone_size(zone) % os_page_size() == 0, "aligned, and a page multiple");
    ok(zone_is_valid(zone), "valid when full");

    zone = zone_create(ZONE_SPAN, 3, TINY);
    size_t blocks = 0;
    for (struct slab *slab; (slab = zone_carve(zone, NULL, TINY_CLASSES - 1)) != NULL;)
        blocks += slab->blocks;
    ok(blocks >= 100, "and %zu of TINY's", blocks);

    for (size_t size = ZONE_SIZE_MIN; size <= ZONE_SPAN; size *= 2) {
        zone = zone_create(size, 0, TINY);
        size_t carved = 0;
        while (zone_carve(zone, NULL, 0) != NULL)
            carved++;
        ok(carved >= size / UNIT_SIZE / 2 && zone_is_valid(zone), "%zu KiB: %zu slabs of 16-byte blocks", size / KIB,
           carved);
    }
}

/* By every address in it, and by none behind. */
static void known_by_address(void) {
    for (size_t size = ZONE_SIZE_MIN; size <= ZONE_SPAN; size *= 2) {
        struct zone *zone = zone_create(size, ARENAS_MAX - 1, TINY);
        uintptr_t start = zone_start(zone);
        unsigned arena;
        size_t found = 0;
        for (uintptr_t at = start; at < start + size; at += UNIT_SIZE)
            found += directory_find_zone(at + 1, &arena) && arena == ARENAS_MAX - 1;
        for (uintptr_t at = start + size; at < start + ZONE_SPAN; at += UNIT_SIZE)
            found += directory_find_zone(at, &arena);
        ok(found == size / UNIT_SIZE, "%zu KiB: %zu units are known to be in the zone", size / KIB, found);
        ok(zone_destroy(zone) && !directory_find_zone(start, &arena), "none when it is gone");
    }
}

static void first_fit(void) {
    struct zone *zone = zone_create(ZONE_SPAN, 0, TINY);
    struct slab *slab = zone_carve(zone, NULL, sizeclass_of(64));
    struct entry entries[1024];
    ok(slab_take(slab, entries + 1024, 1024) == 1024 && slab->free == 0, "all blocks of a slab are taken");
    bool descending = true;
    for (int i = 1; i < 1024; i++)
        descending &= (char *)entries[i].block == (char *)entries[i - 1].block - 64;
    ok(descending, "the lowest last, as a stack of them is to pop in address order");
    int given[] = {700, 3, 512, 64, 63, 1023};
    for (size_t i = 0; i < 6; i++)
        slab_give(slab, &entries[given[i]]);
    struct entry again[6];
    ok(slab_take(slab, again + 6, 6) == 6 && again[5].block == entries[1023].block &&
           again[4].block == entries[700].block && again[3].block == entries[512].block &&
           again[0].block == entries[3].block,
       "the lowest free block is taken first");
    ok(slab_give(slab, &entries[9]) && !slab_give(slab, &entries[9]),
       "a block that is there already is not taken back");
}

static void zero_knowledge(void) {
    struct zone *zone = zone_create(ZONE_SPAN, 0, TINY);
    struct slab *slab = zone_carve(zone, NULL, sizeclass_of(48));
    struct entry entry;
    slab_take(slab, &entry + 1, 1);
    ok(load_relaxed(entry.state) == STATE_UNTOUCHED, "a fresh unit's blocks are untouched");
    slab_set_size(line_of(slab), entry.state, 40);
    ok(slab_size_of(line_of(slab), entry.state) == 40, "a live block's size");
    store_relaxed(entry.state, STATE_USED);
    slab_give(slab, &entry);
    zone_uncarve(zone, slab);
    struct slab_line *line;
    state_byte *state;
    ok(!slab_find_live((uintptr_t)entry.block, &line, &state), "no block is live in a unit that is not carved");
    slab = zone_carve(zone, slab, sizeclass_of(2000));
    slab_take(slab, &entry + 1, 1);
    ok(load_relaxed(entry.state) == STATE_USED, "a dirty unit's are used");
    slab_give(slab, &entry);
    zone_uncarve(zone, slab);
    unsigned first;
    unsigned count = zone_dirty_run(zone, slab, &first);
    zone_purge_begin(zone, first, count);
    ok(count == 1 && zone_is_valid(zone), "purging");
    zone_purge_end(zone, first, count, true);
    slab = zone_carve(zone, NULL, sizeclass_of(1000));
    slab_take(slab, &entry + 1, 1);
    ok(load_relaxed(entry.state) == STATE_UNTOUCHED, "a purged unit's are untouched again");
    slab_give(slab, &entry);
    zone_uncarve(zone, slab);
    count = zone_dirty_run(zone, slab, &first);
    zone_purge_begin(zone, first, count);
    zone_purge_end(zone, first, count, false);
    slab = zone_carve(zone, NULL, sizeclass_of(1000));
    slab_take(slab, &entry + 1, 1);
    ok(load_relaxed(entry.state) == STATE_USED, "but not if the kernel did not take it");
}

/* The cells of 70 slabs, the 11th of them given back, then of one that needs more than that one: they are the next. */
static void cells(void) {
    struct zone *zone = zone_create(ZONE_SPAN, 0, SMALL);
    struct slab *slabs[70];
    for (int i = 0; i < 70; i++)
        slabs[i] = zone_carve(zone, NULL, CLASSES - 1);
    state_byte *hole = slabs[10]->states;
    zone_uncarve(zone, slabs[10]);
    struct slab *slab = zone_carve(zone, NULL, sizeclass_of(64));
    ok(slab_cells(sizeclass_of(64)) > 1 && slab->states == slabs[69]->states + CELL_SIZE, "cells are taken first fit");
    ok(zone_carve(zone, NULL, CLASSES - 1)->states == hole, "and a hole is filled");
}

/* Every size that a block of a class can have, in place. */
static void sizes(void) {
    size_t wrong = 0;
    struct zone *zone = zone_create(ZONE_SPAN, 0, TINY);
    for (unsigned class = 0; class < CLASSES; class += class < TINY_CLASSES ? 1 : 5) {
        struct slab *slab = zone_carve(zone, NULL, class);
        struct entry entries[64];
        size_t count = slab_take(slab, entries + 64, 64);
        for (size_t size = class == 0 ? 0 : 1; size <= sizeclasses[class].size; size++) {
            const struct entry *entry = &entries[63 - size % count];
            slab_set_size(line_of(slab), entry->state, size);
            wrong += slab_size_of(line_of(slab), entry->state) != size || load_relaxed(entry->state) < STATE_LIVE;
        }
    }
    ok(wrong == 0, "every requested size of a class is recorded exactly");
}

static void random_use(void) {
    struct zone *zone = zone_create(ZONE_SIZE_MIN * 2, 0, TINY);
    struct slab *slabs[ZONE_UNITS] = {0};
    size_t invalid = 0, refused = 0;
    for (int step = 0; step < 3000; step++) {
        unsigned unit = zone->first_unit + next_random(zone->units - zone->first_unit);
        struct slab *slab = slabs[unit];
        if (slab == NULL) {
            slab = zone_carve(zone, NULL, next_random(CLASSES));
            if (slab != NULL)
                slabs[zone_unit_of(zone, slab)] = slab;
            else
                refused++;
        } else {
            zone_uncarve(zone, slab);
            slabs[unit] = NULL;
            unsigned first;
            unsigned count = zone_dirty_run(zone, slab, &first);
            zone_purge_begin(zone, first, count);
            zone_purge_end(zone, first, count, next_random(2));
        }
        invalid += !zone_is_valid(zone);
    }
    ok(invalid == 0, "valid after each of 3,000 random carvings (%zu refused for want of cells)", refused);
}

int main(void) {
    geometry();
    known_by_address();
    first_fit();
    zero_knowledge();
    cells();
    sizes();
    random_use();
    return tap_done();
}
