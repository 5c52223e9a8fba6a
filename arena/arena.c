#include "arena.h"
#include "account.h"
#include "message.h"
#include "os.h"
#include <string.h>

void arena_lock(struct arena *arena) {
    lock_acquire(&arena->lock);
}

void arena_unlock(struct arena *arena) {
    lock_release(&arena->lock);
}

/* --------------------------------------------------------------------------------------- the dirty slabs */
static void publish_oldest(struct arena *arena) {
    uint64_t oldest = UINT64_MAX;
    for (unsigned c = 0; c < CATEGORIES; c++)
        if (arena->dirty[c].first != NULL && arena->dirty[c].first->stamp < oldest)
            oldest = arena->dirty[c].first->stamp;
    store_relaxed(&arena->oldest, oldest);
}

/* Dirty slabs enter and leave their list here, so that the retained bytes follow. The caller publishes the oldest. */
static void add_dirty(struct arena *arena, struct slab *slab) {
    enum category category = zone_of(slab)->category;
    slab->stamp = account_stamp();
    slab_list_append(&arena->dirty[category], slab);
    /* Not in a zone that has changed sides since: its slabs are not for that class any more. */
    if (sizeclass_is_tiny(slab->class) == (category == TINY))
        arena->partial->spare[slab->class] = slab;
    account_add_retained((ptrdiff_t)UNIT_SIZE);
}

static void remove_dirty(struct arena *arena, struct slab *slab) {
    if (arena->partial->spare[slab->class] == slab)
        arena->partial->spare[slab->class] = NULL;
    slab_list_remove(&arena->dirty[zone_of(slab)->category], slab);
    account_add_retained(-(ptrdiff_t)UNIT_SIZE);
}

/* --------------------------------------------------------------------------------------- the partial slabs */

/* The slab goes to the list that its occupancy asks for, and notes for how long it is there: bucket b of 0 to 3 is for
 * b to b + 1 quarters of free blocks, of which those that do not divide are in the last. */
static void move_slab(struct arena *arena, struct slab *slab) {
    unsigned quarter = slab->blocks / BUCKETS, free = slab->free;
    unsigned bucket = (free > quarter) + (free > 2 * quarter) + (free > 3 * quarter);
    if (slab->bucket != BUCKET_NONE)
        slab_list_remove(&arena->partial->buckets[slab->class][slab->bucket], slab);
    if (free == 0) {
        slab->bucket = BUCKET_NONE;
        slab->free_min = slab->free_max = 0;
        return;
    }
    slab_list_prepend(&arena->partial->buckets[slab->class][bucket], slab);
    slab->bucket = (uint8_t)bucket;
    slab->free_min = (uint16_t)(bucket * quarter + 1);
    slab->free_max = (uint16_t)(bucket == BUCKETS - 1 ? slab->blocks - 1U : (bucket + 1) * quarter);
}

/* After slab->free changed. */
INLINE void place_slab(struct arena *arena, struct slab *slab) {
    if (UNLIKELY(slab->free < slab->free_min || slab->free > slab->free_max))
        move_slab(arena, slab);
}

static struct slab *fullest_slab(struct arena *arena, unsigned class) {
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++)
        if (arena->partial->buckets[class][bucket].first != NULL)
            return arena->partial->buckets[class][bucket].first;
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ carving */

/*
 * The first unit that is idle. In a zone with idle units there may yet be no room for the class's cells: then the zone
 * goes to the end, and the next is looked at; only a few, as long as the arena can grow instead.
 */
static struct slab *carve_idle(struct arena *arena, enum category category, unsigned class) {
    const struct zone *failed = NULL;
    struct zone *zone;
    for (unsigned tries = 0; (zone = zones_first(&arena->zones, ROOMY, category)) != failed; tries++) {
        if (tries >= CARVE_TRIES && !arena_skips_growth(arena))
            break;
        struct slab *slab = zone_carve(zone, NULL, class);
        if (slab != NULL)
            return slab;
        zones_postpone(&arena->zones, ROOMY, zone);
        if (failed == NULL)
            failed = zone;
    }
    return NULL;
}

/*
 * In this order: the slab that the class emptied last, as then the same pages serve it again; the oldest dirty slab; an
 * idle unit, of a low zone. (Taking the newest dirty slab instead, whichever class was the last in it, lets every slab
 * wander through all classes until all of its pages are resident.)
 */
static struct slab *carve_slab(struct arena *arena, unsigned class) {
    enum category category = sizeclass_is_tiny(class) ? TINY : SMALL;
    struct slab *dirty = arena->partial->spare[class];
    struct slab *slab = NULL;
    if (dirty == NULL)
        dirty = arena->dirty[category].first;
    if (dirty != NULL && zone_has_cells(zone_of(dirty), class)) {
        remove_dirty(arena, dirty);
        publish_oldest(arena);
        slab = zone_carve(zone_of(dirty), dirty, class);
    } else {
        slab = carve_idle(arena, category, class);
        if (slab != NULL)
            account_add_resident((ptrdiff_t)UNIT_SIZE);
    }
    if (slab != NULL) {
        zones_settle(&arena->zones, zone_of(slab));
        slab->bucket = BUCKET_NONE;
        move_slab(arena, slab);
    }
    return slab;
}

size_t arena_refill_locked(struct arena *arena, unsigned class, struct entry *entries, size_t want) {
    size_t got = 0;
    while (got < want) {
        struct slab *slab = fullest_slab(arena, class);
        if (slab == NULL && got == 0)
            slab = carve_slab(arena, class);
        if (slab == NULL)
            break;
        got += slab_take(slab, entries + want - got, want - got);
        place_slab(arena, slab);
    }
    if (got < want)
        memmove(entries, entries + want - got, got * sizeof *entries);
    account_add_live((ptrdiff_t)(got * sizeclasses[class].size));
    arena->counts.refills += got > 0;
    arena->counts.refilled += got;
    return got;
}

/* The same once blocks came back: perhaps all of them. */
static void settle_slab(struct arena *arena, struct slab *slab) {
    if (LIKELY(slab->free <= slab->free_max))
        return;
    if (slab->free < slab->blocks) {
        move_slab(arena, slab);
        return;
    }
    size_t live = slab_retake_live(slab);
    if (UNLIKELY(live > 0)) {
        account_add_live((ptrdiff_t)(live * sizeclasses[slab->class].size));
        arena->counts.flushed -= live;
        move_slab(arena, slab);
        return;
    }
    if (slab->bucket != BUCKET_NONE)
        slab_list_remove(&arena->partial->buckets[slab->class][slab->bucket], slab);
    zone_uncarve(zone_of(slab), slab);
    zones_settle(&arena->zones, zone_of(slab));
    add_dirty(arena, slab);
    publish_oldest(arena);
}

/* The slab that `address` lies in, if it is this arena's; NULL: its last block was freed twice, and the slab is given
 * up or the zone gone. */
INLINE struct slab *own_slab_at(const struct arena *arena, uintptr_t address) {
    const struct slab_line *line = directory_find(address);
    if (UNLIKELY(load_relaxed(&line->reciprocal) == 0 || slab_arena(line) != arena->index))
        return NULL;
    return &zone_of((const void *)address)->slabs[(address >> UNIT_SHIFT) % ZONE_UNITS];
}

size_t arena_flush_locked(struct arena *arena, const struct entry *entries, size_t count, void **twice) {
    size_t bytes = 0;
    size_t doubles = 0;
    struct slab *slab = NULL;
    uintptr_t unit = 0;
    for (const struct entry *entry = entries; entry < entries + count; entry++) {
        if ((uintptr_t)entry->block >> UNIT_SHIFT != unit) {
            if (slab != NULL)
                settle_slab(arena, slab);
            unit = (uintptr_t)entry->block >> UNIT_SHIFT;
            slab = own_slab_at(arena, (uintptr_t)entry->block);
        }
        if (LIKELY(slab != NULL && slab_give(slab, entry))) {
            bytes += sizeclasses[slab->class].size;
        } else {
            *twice = entry->block;
            doubles++;
        }
    }
    if (slab != NULL)
        settle_slab(arena, slab);
    account_add_live(-(ptrdiff_t)bytes);
    arena->counts.flushes++;
    arena->counts.flushed += count - doubles;
    return doubles;
}

/* Notes the lowest of the blocks that came back twice, and counts them. */
static COLD size_t find_twice(uintptr_t word, uint64_t bits, void **twice) {
    size_t index = WORD_NUMBER(word) * 64 + (size_t)__builtin_ctzll(bits);
    *twice = (void *)(round_down(word, UNIT_SIZE) + index * sizeclasses[WORD_CLASS(word)].size);
    return (size_t)__builtin_popcountll(bits);
}

size_t arena_flush_bundles_locked(struct arena *arena, const struct bundle *bundles, size_t count, void **twice) {
    size_t bytes = 0;
    size_t flushed = 0;
    size_t doubles = 0;
    for (const struct bundle *bundle = bundles; bundle < bundles + count; bundle++) {
        uintptr_t word = bundle->word;
        uint64_t lost = load_relaxed(&bundle->bits);
        struct slab *slab = own_slab_at(arena, word);
        if (LIKELY(slab != NULL && slab->class == WORD_CLASS(word))) { /* else freed twice, and the slab is another's */
            size_t free = slab->free;
            lost &= ~slab_give_word(slab, WORD_NUMBER(word), lost);
            flushed += slab->free - free;
            bytes += (slab->free - free) * sizeclasses[slab->class].size;
            settle_slab(arena, slab);
        }
        if (UNLIKELY(lost != 0))
            doubles += find_twice(word, lost, twice);
    }
    account_add_live(-(ptrdiff_t)bytes);
    arena->counts.flushes++;
    arena->counts.flushed += flushed;
    arena->counts.remote_frees += flushed;
    return doubles;
}

/* ------------------------------------------------------------------------------------------------- zones */
/* The one that follows; with NULL the first. */
static struct zone *next_zone(const struct arena *arena, const struct zone *zone) {
    return zones_find(&arena->zones, zone == NULL ? 0 : zone_start(zone) + 1);
}

/* Calls `visit` for each dirty slab of a zone. */
static void each_dirty(struct arena *arena, struct zone *zone, void (*visit)(struct arena *, struct slab *)) {
    for (unsigned unit = zone->first_unit; unit < zone->units; unit++)
        if (unit_set_has(zone->dirty, unit))
            visit(arena, &zone->slabs[unit]);
}

/* A zone without a carved slab changes sides; its dirty slabs go along, as the newest. */
static bool retype_zone(struct arena *arena, enum category to) {
    struct zone *zone = zones_first(&arena->zones, EMPTY, to == TINY ? SMALL : TINY);
    if (zone == NULL)
        return false;
    each_dirty(arena, zone, remove_dirty);
    zones_remove(&arena->zones, zone);
    zone->category = (uint8_t)to;
    zones_insert(&arena->zones, zone);
    each_dirty(arena, zone, add_dirty);
    publish_oldest(arena);
    return true;
}

/* False, mostly at once, while the kernel refuses. */
static bool may_map(struct arena *arena) {
    unsigned skips = load_relaxed(&arena->growth_skips);
    if (skips > 1) {
        store_relaxed(&arena->growth_skips, skips - 1);
        return false;
    }
    if (skips == 0)
        return true;
    bool is_back = os_has_room(ZONE_SIZE_MIN);
    store_relaxed(&arena->growth_skips, is_back ? 0 : GROWTH_SKIPS);
    return is_back;
}

static struct zone *create_zone(struct arena *arena, enum category category, size_t size) {
    struct zone *zone = NULL;
    for (; zone == NULL && size >= ZONE_SIZE_MIN; size /= 2)
        zone = zone_create(size, arena->index, category);
    if (zone == NULL)
        store_relaxed(&arena->growth_skips, GROWTH_SKIPS);
    return zone;
}

bool arena_grow(struct arena *arena, unsigned class, size_t size) {
    enum category category = sizeclass_is_tiny(class) ? TINY : SMALL;
    arena_lock(arena);
    bool retyped = retype_zone(arena, category);
    arena_unlock(arena);
    if (retyped)
        return true;
    struct zone *zone = may_map(arena) ? create_zone(arena, category, size) : NULL;
    if (zone == NULL)
        return false;
    arena_lock(arena);
    zones_insert(&arena->zones, zone);
    arena->counts.zones_mapped++;
    arena_unlock(arena);
    return true;
}

bool arena_skips_growth(struct arena *arena) {
    return load_relaxed(&arena->growth_skips) > 0;
}

void arena_retry_growth(struct arena *arena) {
    if (arena_skips_growth(arena))
        store_relaxed(&arena->growth_skips, 1);
}

/* ------------------------------------------------------------------------------------------------- purging */
static void forget_dirty(struct arena *arena, struct slab *slab) {
    struct zone *zone = zone_of(slab);
    remove_dirty(arena, slab);
    account_add_resident(-(ptrdiff_t)UNIT_SIZE);
    zone_purge_begin(zone, zone_unit_of(zone, slab), 1);
    zone_purge_end(zone, zone_unit_of(zone, slab), 1, false);
}

/* Unmaps an empty zone, the lock held at first and released here. Its bytes; 0: the kernel refuses, and the zone
 * returns, its dirty units counted as idle. */
static size_t give_zone_unlocking(struct arena *arena, struct zone *zone) {
    size_t size = zone_size(zone);
    each_dirty(arena, zone, forget_dirty);
    zones_remove(&arena->zones, zone);
    publish_oldest(arena);
    arena_unlock(arena);
    if (zone_destroy(zone))
        return size;
    arena_lock(arena);
    zones_insert(&arena->zones, zone);
    arena_unlock(arena);
    return 0;
}

bool arena_release_zone(struct arena *arena) {
    arena_lock(arena);
    struct zone *zone = zones_first(&arena->zones, EMPTY, TINY);
    if (zone == NULL)
        zone = zones_first(&arena->zones, EMPTY, SMALL);
    if (zone != NULL)
        return give_zone_unlocking(arena, zone) > 0;
    arena_unlock(arena);
    return false;
}

/* Unmaps the zone's idle tail, the lock held before and after, but not meanwhile. The units leave the zone first: so
 * the child of a fork has lost their addresses, at worst. The zone stays, and no other thread shortens it, as one in
 * which something is being purged. */
static bool shorten(struct arena *arena, struct zone *zone, unsigned count) {
    zone_cut_tail(zone, count);
    zone->purging_count++;
    arena->purges++;
    zones_resize(&arena->zones, zone, -(int)count);
    lock_begin_work(); /* arena_reset_lock ends the purges of others */
    arena_unlock(arena);

    bool unmapped = zone_unmap_tail(zone, count);

    arena_lock(arena);
    lock_end_work();
    zone->purging_count--;
    arena->purges--;
    if (!unmapped)
        zone_restore_tail(zone, count);
    zones_resize(&arena->zones, zone, unmapped ? 0 : (int)count);
    return unmapped;
}

/* Looks at each zone with idle units in turn, until one that had no such tail comes again. */
static bool shorten_zones(struct arena *arena, enum category category) {
    const struct zone *first = NULL; /* looked at since the lock was taken */
    bool any = false;
    for (struct zone *zone; (zone = zones_first(&arena->zones, ROOMY, category)) != NULL && zone != first;) {
        unsigned count = zone->purging_count > 0 ? 0 : zone_idle_tail(zone);
        zones_postpone(&arena->zones, ROOMY, zone);
        if (count == 0) {
            first = first == NULL ? zone : first;
            continue;
        }
        first = NULL;
        if (!shorten(arena, zone, count))
            break; /* there is no mapping left to split one with */
        any = true;
    }
    return any;
}

bool arena_shorten_zones(struct arena *arena) {
    arena_lock(arena);
    bool tiny = shorten_zones(arena, TINY);
    bool small = shorten_zones(arena, SMALL);
    arena_unlock(arena);
    return tiny || small;
}

size_t arena_purge_oldest(struct arena *arena) {
    arena_lock(arena);
    struct slab *slab = arena->dirty[TINY].first;
    struct slab *small = arena->dirty[SMALL].first;
    if (slab == NULL || (small != NULL && small->stamp < slab->stamp))
        slab = small;
    if (slab == NULL) {
        arena_unlock(arena);
        return 0;
    }
    struct zone *zone = zone_of(slab);
    if (zone_is_empty(zone)) {
        size_t bytes = zone_dirty_bytes(zone);
        give_zone_unlocking(arena, zone);
        return bytes;
    }
    unsigned first;
    unsigned count = zone_dirty_run(zone, slab, &first);
    for (unsigned unit = first; unit < first + count; unit++)
        remove_dirty(arena, &zone->slabs[unit]);
    account_add_resident(-(ptrdiff_t)(count * UNIT_SIZE));
    zone_purge_begin(zone, first, count);
    arena->purges++;
    publish_oldest(arena);
    lock_begin_work(); /* arena_reset_lock ends the purges of others */
    arena_unlock(arena);

    bool zeroed = os_purge((char *)zone_start(zone) + first * UNIT_SIZE, count * UNIT_SIZE);

    arena_lock(arena);
    lock_end_work();
    zone_purge_end(zone, first, count, zeroed);
    zones_settle(&arena->zones, zone);
    arena->purges--;
    arena_unlock(arena);
    return count * UNIT_SIZE;
}

/* ------------------------------------------------------------------------------------------------- looking */
struct zone_view arena_next_zone(struct arena *arena, uintptr_t from) {
    struct zone_view view = {0};
    arena_lock(arena);
    const struct zone *zone = zones_find(&arena->zones, from);
    if (zone != NULL)
        view = (struct zone_view){zone_start(zone), zone_size(zone), zone->first_unit,
                                  zone->units,      zone->category,  arena->zones.removals};
    arena_unlock(arena);
    return view;
}

static bool has_zone(const struct arena *arena, const struct zone_view *view) {
    const struct zone *zone = zones_find(&arena->zones, view->start);
    return zone != NULL && zone_start(zone) == view->start && zone->category == view->category &&
           zone_size(zone) == view->size;
}

bool arena_view_slab(struct arena *arena, const struct zone_view *zone, unsigned unit, uint32_t first,
                     struct slab_view *view) {
    arena_lock(arena);
    bool is_there = zone->removals == arena->zones.removals || has_zone(arena, zone);
    if (is_there) {
        const struct slab *slab = &zone_of((const void *)zone->start)->slabs[unit];
        bool carved = slab->status == SLAB_CARVED;
        view->status = slab->status;
        view->class = carved ? slab->class : 0;
        view->block_size = carved ? sizeclasses[slab->class].size : 0;
        view->blocks = carved ? slab->blocks : 0;
        view->free = carved ? slab->free : 0;
        view->first = (uint32_t)min_size(first, view->blocks);
        view->end = (uint32_t)min_size(view->first + view->room, view->blocks);
        if (view->first < view->end) {
            slab_copy_register(slab, view->first, view->end, view->states, view->slacks);
            memcpy(view->taken, slab->taken + view->first / 64,
                   (view->end - view->first + 63) / 64 * sizeof *view->taken);
        }
    }
    arena_unlock(arena);
    view->base = zone->start + unit * UNIT_SIZE;
    return is_there;
}

bool arena_find_live(struct arena *arena, uintptr_t address, size_t *size) {
    struct slab_line *line;
    state_byte *state;
    arena_lock(arena); /* so that the states do not go meanwhile */
    bool live = own_slab_at(arena, address) && slab_find_live(address, &line, &state);
    if (live) {
        *size = slab_size_of(line, state);
        live = *size <= slab_block_size(line); /* otherwise it was freed between the two looks */
    }
    arena_unlock(arena);
    return live;
}

void arena_total(struct arena *arena, struct arena_totals *totals) {
    arena_lock(arena);
    *totals = (struct arena_totals){.zones = arena->zones.count,
                                    .mapped = arena->zones.mapped,
                                    .mapped_peak = arena->zones.mapped_peak,
                                    .counts = arena->counts,
                                    .lock = arena->lock.counts};
    arena_unlock(arena);
}

/* ------------------------------------------------------------------------------------------------ validity */
static bool slab_is_placed(const struct slab *slab, enum category category) {
    return slab->free >= slab->free_min && slab->free <= slab->free_max &&
           (slab->bucket == BUCKET_NONE) == (slab->free == 0) && sizeclass_is_tiny(slab->class) == (category == TINY);
}

/* Counts its dirty and its partly free slabs. */
static bool zone_is_in_order(const struct arena *arena, const struct zone *zone, size_t *dirty, size_t *partial) {
    if (zone->arena != arena->index || !zone_is_valid(zone))
        return false;
    for (unsigned unit = zone->first_unit; unit < zone->units; unit++) {
        const struct slab *slab = &zone->slabs[unit];
        *dirty += unit_set_has(zone->dirty, unit);
        if (slab->status != SLAB_CARVED)
            continue;
        if (!slab_is_placed(slab, zone->category))
            return false;
        *partial += slab->free > 0;
    }
    return true;
}

bool arena_is_valid(struct arena *arena) {
    size_t dirty = 0;
    size_t partial = 0;
    arena_lock(arena);
    bool valid = zones_are_valid(&arena->zones);
    for (const struct zone *zone = NULL; valid && (zone = next_zone(arena, zone)) != NULL;)
        valid = zone_is_in_order(arena, zone, &dirty, &partial);
    for (unsigned c = 0; c < CATEGORIES; c++)
        for (const struct slab *slab = arena->dirty[c].first; slab != NULL; slab = slab->next)
            dirty--;
    for (unsigned class = 0; class < CLASSES; class ++)
        for (unsigned bucket = 0; bucket < BUCKETS; bucket++)
            for (const struct slab *slab = arena->partial->buckets[class][bucket].first; slab != NULL;
                 slab = slab->next)
                partial--;
    arena_unlock(arena);
    return valid && dirty == 0 && partial == 0;
}

/* ----------------------------------------------------------------------------------------------------- fork */
static void end_purges(struct arena *arena, struct zone *zone) {
    for (unsigned unit = zone->first_unit; zone->purging_count > 0 && unit < zone->units; unit++)
        if (unit_set_has(zone->purging, unit))
            zone_purge_end(zone, unit, 1, false);
    zone->purging_count = 0; /* as of one that was being shortened */
    zones_settle(&arena->zones, zone);
}

void arena_reset_lock(struct arena *arena) {
    for (struct zone *zone = NULL; arena->purges > 0 && (zone = next_zone(arena, zone)) != NULL;)
        end_purges(arena, zone);
    arena->purges = 0;
    lock_reset(&arena->lock);
}
