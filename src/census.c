#include "census.h"
#include "account.h"
#include "directory.h"
#include "history.h"
#include "large.h"
#include "ledger.h"
#include "metadata.h"
#include "os.h"
#include "quarantine.h"
#include "stacks.h"
#include "tcaches.h"

_Static_assert(CADASTRE_CLASSES == CLASSES, "the public number of classes");

/* Where the bytes of a kind are counted. */
#define KIND(field) offsetof(struct cadastre_memory, field)

struct census {
    struct cadastre_memory mapped;
    struct cadastre_memory *resident; /* NULL: not wanted */
    uintptr_t seen;                   /* the pages of [seen, seen_end) are in the room, as the kernel answered */
    uintptr_t seen_end;
    struct census_room *room;
};

/* ---------------------------------------------------------------------------------------------- bytes by kind */

/* Asks the kernel for [from, to), or as much of it as there is room for. */
static void see(struct census *census, uintptr_t from, uintptr_t to) {
    size_t page = os_page_size();
    census->seen = round_down(from, page);
    census->seen_end = census->seen + min_size(round_up(to, page) - census->seen, CENSUS_PAGES * page);
    os_look_up_resident((void *)census->seen, census->seen_end - census->seen, census->room->pages);
}

static uint64_t resident_bytes(struct census *census, uintptr_t from, uintptr_t to) {
    size_t page = os_page_size();
    uint64_t bytes = 0;
    while (from < to) {
        if (from < census->seen || from >= census->seen_end)
            see(census, from, to);
        uintptr_t end = min_size(round_down(from, page) + page, to);
        bytes += (census->room->pages[(from - census->seen) / page] & 1) ? end - from : 0;
        from = end;
    }
    return bytes;
}

static void add_bytes(struct cadastre_memory *memory, size_t kind, uint64_t bytes) {
    *(uint64_t *)((char *)memory + kind) += bytes;
    memory->total += bytes;
}

static void add(struct census *census, size_t kind, uintptr_t from, uintptr_t to) {
    add_bytes(&census->mapped, kind, to - from);
    if (census->resident != NULL)
        add_bytes(census->resident, kind, resident_bytes(census, from, to));
}

/* With what os_map_own has put around it. */
static void add_own(struct census *census, size_t kind, const void *memory, size_t size) {
    add(census, kind, (uintptr_t)memory, (uintptr_t)memory + size);
    add_bytes(&census->mapped, KIND(guards), os_own_guards());
}

/* ---------------------------------------------------------------------------------------------------- arenas */
static void count_slab(struct census *census, const struct slab_view *view, struct cadastre_class_stats *stats) {
    uintptr_t start = view->base;
    if (census->resident != NULL)
        see(census, start, start + UNIT_SIZE);
    for (size_t i = 0; i < view->blocks; i++, start += view->block_size) {
        uintptr_t end = start + view->block_size;
        size_t state = load_relaxed(&view->states[i]);
        if (state >= STATE_LIVE) {
            size_t slack = state == STATE_WIDE ? load_relaxed(&view->slacks[i]) : state - STATE_LIVE;
            add(census, KIND(live), start, end - slack);
            add(census, KIND(rounding), end - slack, end);
            stats->live++;
        } else if (view->taken[i / 64] >> (i % 64) & 1) {
            add(census, KIND(caches), start, end);
            stats->cached++;
        } else {
            add(census, KIND(free), start, end);
            stats->free++;
        }
    }
    add(census, KIND(tails), start, view->base + UNIT_SIZE);
    stats->slabs++;
}

static void count_zone(struct census *census, struct arena *arena, const struct zone_view *zone,
                       struct cadastre_arena_stats *stats) {
    struct slab_view view = slab_view_in(&census->room->walk.slab);
    uintptr_t at = zone->start + zone->first_unit * UNIT_SIZE;
    add(census, KIND(guards), zone->start, zone->start + ZONE_GUARD);
    add(census, KIND(headers), zone->start + ZONE_GUARD, at);
    for (unsigned unit = zone->first_unit; unit < zone->units; unit++, at += UNIT_SIZE) {
        if (!arena_view_slab(arena, zone, unit, 0, &view))
            return; /* it is gone */
        if (view.status == SLAB_CARVED) {
            count_slab(census, &view, &stats->classes[view.class]);
            stats->slabs++;
        } else {
            add(census, view.status == SLAB_DIRTY ? KIND(retained) : KIND(idle), at, at + UNIT_SIZE);
        }
    }
}

static struct cadastre_lock_stats stats_of(struct lock_counts counts) {
    return (struct cadastre_lock_stats){counts.acquisitions, counts.contended, counts.slept_ns};
}

void census_arena_counters(unsigned index, struct cadastre_arena_stats *stats) {
    struct arena *arena = arenas_at(index);
    struct arena_totals totals;
    arena_total(arena, &totals);
    *stats = (struct cadastre_arena_stats){.size = sizeof *stats,
                                           .threads = load_relaxed(&arena->threads),
                                           .zones = totals.zones,
                                           .zones_mapped = totals.counts.zones_mapped,
                                           .mapped_peak = totals.mapped_peak,
                                           .refills = totals.counts.refills,
                                           .refilled = totals.counts.refilled,
                                           .flushes = totals.counts.flushes,
                                           .flushed = totals.counts.flushed,
                                           .remote_frees = totals.counts.remote_frees,
                                           .lock = stats_of(totals.lock)};
    for (unsigned class = 0; class < CLASSES; class ++)
        stats->classes[class].block_size = sizeclasses[class].size;
}

static void count_arena(struct census *census, unsigned index, struct cadastre_arena_stats *stats) {
    struct arena *arena = arenas_at(index);
    census_arena_counters(index, stats);
    for (uintptr_t from = 0;;) {
        struct zone_view zone = arena_next_zone(arena, from);
        if (zone.start == 0)
            return;
        count_zone(census, arena, &zone, stats);
        from = zone.start + zone.size;
    }
}

void census_arena(struct census_room *room, unsigned index, struct cadastre_arena_stats *stats) {
    struct census census = {.resident = NULL, .room = room};
    count_arena(&census, index, stats);
    stats->mapped = census.mapped;
}

static void count_arenas(struct census *census, struct cadastre_stats *stats) {
    struct cadastre_arena_stats *of_arena = &census->room->arena;
    stats->arenas = arenas_count();
    for (unsigned i = 0; i < arenas_count(); i++) {
        count_arena(census, i, of_arena);
        for (unsigned class = 0; class < CLASSES; class ++) {
            stats->live_blocks += of_arena->classes[class].live;
            stats->cached_blocks += of_arena->classes[class].cached;
            stats->free_blocks += of_arena->classes[class].free;
        }
    }
}

/* ---------------------------------------------------------------------------------------------- all the rest */
static void count_span(struct census *census, const struct large_view *view, struct cadastre_stats *stats) {
    uintptr_t end = view->start + view->span;
    if (view->kind == LARGE_LIVE) {
        add(census, KIND(live), view->start, view->start + view->size);
        add(census, KIND(rounding), view->start + view->size, end);
        stats->live_blocks++;
        stats->large_blocks++;
        stats->large_bytes += view->span;
    } else if (view->kind == LARGE_HELD) {
        add(census, KIND(quarantine), view->start, end);
    } else if (view->kind == LARGE_RETIRED) {
        add(census, KIND(retired), view->start, end);
    } else {
        add(census, view->retained ? KIND(retained) : KIND(idle), view->start, end);
        stats->large_free++;
    }
    if (view->guards != 0) {
        add(census, KIND(guards), view->start - os_page_size(), view->start);
        add(census, KIND(guards), end, end + view->guards);
    }
}

static void count_large(struct census *census, struct cadastre_stats *stats) {
    struct large_view *views = census->room->walk.spans;
    size_t count = WALK_SPANS;
    stats->large_lock = stats_of(large_lock_counts());
    for (uintptr_t from = 0; count == WALK_SPANS;) {
        count = large_list(from, views, WALK_SPANS);
        for (size_t i = 0; i < count; i++) {
            /* What starts inside of it later was not there when it was looked at. */
            from = views[i].start + views[i].span;
            count_span(census, &views[i], stats);
        }
    }
}

/* Of the blocks that are free and not in their slabs, what is in caches by default: `bytes` are of another kind. */
static void move_from_caches(struct census *census, size_t kind, uint64_t bytes) {
    struct cadastre_memory *memories[] = {&census->mapped, census->resident};
    for (size_t i = 0; i < 2 && memories[i] != NULL; i++) {
        uint64_t moved = min_size(bytes, memories[i]->caches);
        memories[i]->caches -= moved;
        *(uint64_t *)((char *)memories[i] + kind) += moved;
    }
}

/* The caches' own memory; and what is outgoing, as they tell how many bytes, if not which blocks. */
static void count_caches(struct census *census, struct cadastre_stats *stats) {
    size_t size;
    size_t outgoing;
    uint64_t all_outgoing = 0;
    for (const struct tcache *cache = NULL; (cache = tcaches_look_up(cache, &size, &outgoing)) != NULL;) {
        add(census, KIND(threads), (uintptr_t)cache, (uintptr_t)cache + size);
        all_outgoing += outgoing;
        stats->caches++;
    }
    move_from_caches(census, KIND(outgoing), all_outgoing);
}

static void add_table(struct census *census, const void *memory, size_t size) {
    if (memory != NULL)
        add_own(census, KIND(debug), memory, size);
}

/* After LARGE, whose blocks the quarantine counts as well. */
static void count_debugging(struct census *census) {
    size_t size;
    size_t held;
    const void *memory;
    for (unsigned n = 0; n < LEDGER_PIECES; n++) {
        memory = ledger_memory(n, &size);
        add_table(census, memory, size);
    }
    memory = history_memory(&size);
    add_table(census, memory, size);
    for (size_t n = 0; (memory = stacks_memory(n, &size)) != NULL; n++)
        add_table(census, memory, size);
    memory = quarantine_memory(&size, &held);
    add_table(census, memory, size);
    move_from_caches(census, KIND(quarantine), held - min_size(held, census->mapped.quarantine));
}

/* They lie in what was counted as metadata. */
static void subtract_caches(struct cadastre_memory *memory) {
    uint64_t bytes = min_size(memory->threads, memory->metadata);
    memory->metadata -= bytes;
    memory->total -= bytes;
}

/* After the caches. */
static void count_own(struct census *census, struct cadastre_stats *stats) {
    struct metadata_totals totals;
    size_t size;
    const struct leaf *leaf;
    for (const void *chunk = NULL; (chunk = metadata_next_chunk(chunk, &size)) != NULL;)
        add_own(census, KIND(metadata), chunk, size);
    subtract_caches(&census->mapped);
    if (census->resident != NULL)
        subtract_caches(census->resident);
    for (uintptr_t slot = 0; (leaf = directory_next_leaf(&slot, &size)) != NULL;)
        add_own(census, KIND(directory), leaf, size);
    metadata_total(&totals);
    stats->metadata_used = totals.used;
    stats->metadata_lock = stats_of(totals.lock);
}

void census_all(struct census_room *room, struct cadastre_stats *stats, struct cadastre_memory *resident) {
    struct census census = {.resident = resident, .room = room};
    *stats = (struct cadastre_stats){.size = sizeof *stats};
    if (resident != NULL)
        *resident = (struct cadastre_memory){0};
    count_arenas(&census, stats);
    count_large(&census, stats);
    count_caches(&census, stats);
    count_own(&census, stats);
    count_debugging(&census);
    uint64_t mapped = os_mapped();
    if (mapped > census.mapped.total)
        add_bytes(&census.mapped, KIND(other), mapped - census.mapped.total);
    stats->mapped = census.mapped;
    stats->mapped_peak = os_mapped_peak();
    stats->purged = os_purged();
    stats->swing = account_swing();
}
