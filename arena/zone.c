#include "zone.h"
#include "directory.h"
#include "message.h"
#include "os.h"

#define HINT_TRIES 4

/* Where places below are often free. A hint: any value does. */
static _Atomic uintptr_t newest_zone;

static void unit_set_add(unit_set set, unsigned unit) {
    set[unit / 64] |= UINT64_C(1) << (unit % 64);
}

static void unit_set_drop(unit_set set, unsigned unit) {
    set[unit / 64] &= ~(UINT64_C(1) << (unit % 64));
}

/* --------------------------------------------------------------------------------------------- the mapping */
static void *map_below(uintptr_t address, size_t size, int tries) {
    for (; tries > 0 && address > ZONE_SPAN; tries--) {
        address -= ZONE_SPAN;
        void *p = os_map_at((void *)address, size);
        if (p != NULL)
            return p;
    }
    return NULL;
}

/* Where the kernel chooses, which beside a zone of full size is aligned; or else an aligned hole near that or below the
 * newest zone. Over-mapping and trimming would need twice the address space, which a limit may not allow, so it comes
 * last. */
static void *map_aligned(size_t size) {
    void *p = os_map(size);
    if (p == NULL || (uintptr_t)p % ZONE_SPAN == 0)
        return p;
    os_unmap(p, size);
    uintptr_t above = round_up((uintptr_t)p, ZONE_SPAN);
    p = map_below(above, size, HINT_TRIES);
    if (p == NULL)
        p = map_below(load_relaxed(&newest_zone), size, HINT_TRIES);
    return p != NULL ? p : os_map_aligned(size, ZONE_SPAN);
}

/* What was mapped there is entered in the directory; NULL: it cannot be, and is unmapped. */
static void *enter(void *p, size_t size) {
    if (p == NULL || directory_enter((uintptr_t)p))
        return p;
    os_unmap(p, size);
    return NULL;
}

/* Where a zone stood before, so that the addresses in use, and what the directory keeps for them, are bounded by the
 * most that there ever were, however often zones come and go. */
static void *map_zone(size_t size) {
    uintptr_t hole = directory_take_hole();
    void *zone = hole == 0 ? NULL : enter(os_map_at((void *)hole, size), size);
    if (zone != NULL)
        return zone;
    void *p = map_aligned(size);
    zone = enter(p, size);
    if (zone == NULL && p != NULL)
        zone = enter(map_below(directory_page_start((uintptr_t)p), size, HINT_TRIES), size);
    if (zone == NULL && hole != 0) /* not because somebody else is there now */
        directory_add_hole(hole);
    return zone;
}

struct zone *zone_create(size_t size, uint16_t arena, enum category category) {
    char *start = map_zone(size);
    if (start == NULL)
        return NULL;
    /* Refused where there can be no more mappings: then the unit is just left empty. */
    os_guard(start, ZONE_GUARD);
    os_avoid_huge_pages(start + ZONE_GUARD, size - ZONE_GUARD);
    store_relaxed(&newest_zone, (uintptr_t)start);
    struct zone *zone = zone_of(start);
    zone->category = (uint8_t)category;
    zone->arena = arena;
    zone->lines = directory_find((uintptr_t)start);
    zone->units = (uint16_t)(size / UNIT_SIZE);
    directory_note_zone((uintptr_t)start, arena, zone->units);
    zone->first_unit = (uint16_t)(1 + HEADER_UNITS(zone->units));
    zone->cells = (uint16_t)((HEADER_UNITS(zone->units) * UNIT_SIZE - CELLS_OFFSET) / CELL_SIZE);
    for (unsigned unit = zone->first_unit; unit < zone->units; unit++) {
        unit_set_add(zone->idle, unit);
        unit_set_add(zone->zero, unit);
    }
    return zone;
}

bool zone_destroy(struct zone *zone) {
    uintptr_t start = zone_start(zone);
    ASSERT(zone_is_empty(zone));
    unsigned arena = zone->arena, units = zone->units;
    size_t size = zone_size(zone);
    directory_forget_zone(start); /* before its place can be another zone's */
    if (!os_unmap((void *)start, size)) {
        directory_note_zone(start, arena, units);
        return false;
    }
    directory_leave(start);
    directory_add_hole(start);
    return true;
}

/* ----------------------------------------------------------------------------------------------- the cells */
static char *cell_at(struct zone *zone, size_t index) {
    return (char *)zone + CELLS_OFFSET + index * CELL_SIZE;
}

static bool cell_is_taken(const struct zone *zone, size_t index) {
    return zone->cells_taken[index / 64] >> (index % 64) & 1;
}

static void flip_cells(struct zone *zone, size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++)
        zone->cells_taken[i / 64] ^= UINT64_C(1) << (i % 64);
}

/* First fit. SIZE_MAX: no run of `count`. */
static size_t find_cells(const struct zone *zone, size_t count) {
    size_t run = 0;
    for (size_t i = 0; i < zone->cells;) {
        uint64_t clear = ~zone->cells_taken[i / 64] >> (i % 64);
        if ((clear & 1) == 0) { /* on to the next that is not taken, or to the next word */
            i += clear == 0 ? 64 - i % 64 : (size_t)__builtin_ctzll(clear);
            run = 0;
            continue;
        }
        i++;
        if (++run == count)
            return i - count;
    }
    return SIZE_MAX;
}

bool zone_has_cells(const struct zone *zone, unsigned class) {
    return find_cells(zone, slab_cells(class)) != SIZE_MAX;
}

/* ----------------------------------------------------------------------------------------------- the units */
static unsigned lowest_idle(const struct zone *zone) {
    for (unsigned word = 0; word < UNIT_WORDS; word++)
        if (zone->idle[word] != 0)
            return word * 64 + (unsigned)__builtin_ctzll(zone->idle[word]);
    return 0;
}

struct slab *zone_carve(struct zone *zone, struct slab *slab, unsigned class) {
    unsigned unit = slab != NULL ? zone_unit_of(zone, slab) : lowest_idle(zone);
    size_t count = slab_cells(class);
    size_t cell = unit == 0 ? SIZE_MAX : find_cells(zone, count);
    if (cell == SIZE_MAX)
        return NULL;
    flip_cells(zone, cell, count);
    bool blocks_zero = unit_set_has(zone->zero, unit);
    bool cells_zero = cell >= zone->cells_fresh;
    zone->cells_fresh = (uint16_t)max_size(zone->cells_fresh, cell + count);
    unit_set_drop(zone->idle, unit);
    unit_set_drop(zone->zero, unit);
    unit_set_drop(zone->dirty, unit);
    zone->carved++;
    slab = &zone->slabs[unit];
    slab->base = (char *)zone_start(zone) + (size_t)unit * UNIT_SIZE;
    slab_carve(slab, &zone->lines[unit], class, zone->arena, cell_at(zone, cell), blocks_zero, cells_zero);
    return slab;
}

void zone_uncarve(struct zone *zone, struct slab *slab) {
    size_t count = slab_cells(slab->class);
    char *cells = slab_uncarve(slab, &zone->lines[zone_unit_of(zone, slab)]);
    flip_cells(zone, (size_t)(cells - cell_at(zone, 0)) / CELL_SIZE, count);
    slab->status = SLAB_DIRTY;
    unit_set_add(zone->dirty, zone_unit_of(zone, slab));
    zone->carved--;
}

/* ------------------------------------------------------------------------------------------------- purging */
size_t zone_dirty_bytes(const struct zone *zone) {
    size_t units = 0;
    for (unsigned word = 0; word < UNIT_WORDS; word++)
        units += (size_t)__builtin_popcountll(zone->dirty[word]);
    return units * UNIT_SIZE;
}

unsigned zone_dirty_run(const struct zone *zone, const struct slab *slab, unsigned *first) {
    unsigned low = zone_unit_of(zone, slab);
    unsigned end = low + 1;
    while (unit_set_has(zone->dirty, low - 1) && end - low < PURGE_RUN_UNITS)
        low--;
    while (end < zone->units && unit_set_has(zone->dirty, end) && end - low < PURGE_RUN_UNITS)
        end++;
    *first = low;
    return end - low;
}

void zone_purge_begin(struct zone *zone, unsigned first, unsigned count) {
    for (unsigned unit = first; unit < first + count; unit++) {
        ASSERT(unit_set_has(zone->dirty, unit));
        unit_set_drop(zone->dirty, unit);
        unit_set_add(zone->purging, unit);
        zone->slabs[unit].status = SLAB_PURGING;
    }
    zone->purging_count = (uint16_t)(zone->purging_count + count);
}

void zone_purge_end(struct zone *zone, unsigned first, unsigned count, bool zeroed) {
    for (unsigned unit = first; unit < first + count; unit++) {
        unit_set_drop(zone->purging, unit);
        unit_set_add(zone->idle, unit);
        if (zeroed)
            unit_set_add(zone->zero, unit);
        zone->slabs[unit].status = SLAB_IDLE;
    }
    zone->purging_count = (uint16_t)(zone->purging_count - count);
}

/* ---------------------------------------------------------------------------------------------- shortening */
unsigned zone_idle_tail(const struct zone *zone) {
    unsigned end = zone->units;
    while (end > zone->first_unit && unit_set_has(zone->idle, end - 1))
        end--;
    return zone->units - end;
}

void zone_cut_tail(struct zone *zone, unsigned count) {
    ASSERT(count <= zone_idle_tail(zone));
    for (unsigned i = 0; i < count; i++) {
        zone->units--;
        unit_set_drop(zone->idle, zone->units);
        unit_set_drop(zone->zero, zone->units);
    }
    directory_note_zone(zone_start(zone), zone->arena, zone->units);
}

void zone_restore_tail(struct zone *zone, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        unit_set_add(zone->idle, zone->units++);
    directory_note_zone(zone_start(zone), zone->arena, zone->units);
}

bool zone_unmap_tail(struct zone *zone, unsigned count) {
    return os_unmap((void *)(zone_start(zone) + zone_size(zone)), count * UNIT_SIZE);
}

/* ------------------------------------------------------------------------------------------------ validity */
static bool unit_is_valid(const struct zone *zone, unsigned unit) {
    const struct slab *slab = &zone->slabs[unit];
    bool idle = unit_set_has(zone->idle, unit);
    bool dirty = unit_set_has(zone->dirty, unit);
    bool purging = unit_set_has(zone->purging, unit);
    bool carved = slab->status == SLAB_CARVED;
    if (idle + dirty + purging + carved != 1 || (unit_set_has(zone->zero, unit) && !idle))
        return false;
    return slab_is_valid(slab, &zone->lines[unit]);
}

bool zone_is_valid(const struct zone *zone) {
    size_t cells = 0;
    unsigned carved = 0;
    for (unsigned unit = zone->first_unit; unit < zone->units; unit++) {
        if (!unit_is_valid(zone, unit))
            return false;
        if (zone->slabs[unit].status == SLAB_CARVED) {
            carved++;
            cells += slab_cells(zone->slabs[unit].class);
        }
    }
    for (size_t i = 0; i < zone->cells; i++)
        cells -= cell_is_taken(zone, i);
    return carved == zone->carved && cells == 0;
}
