/* The walk: what it counts in each unit, in which order it calls, and zones that go, or change sides, under it. */
#include "arenas.h"
#include "tap.h"
#include "tcache.h"

enum { MANY = 4000, ZONES = 3 };

static struct entry held[MANY];
static size_t held_count;
static struct walk_room room;

/* Takes blocks of `size` bytes until the arena has so many slabs more; every other block is made live. */
static void take(struct arena *arena, size_t size, size_t slabs) {
    unsigned class = sizeclass_of(size);
    size_t want = slabs * sizeclasses[class].blocks;
    for (size_t got = 0; got < want;) {
        arena_lock(arena);
        size_t n = arena_refill_locked(arena, class, held + held_count, want - got);
        arena_unlock(arena);
        for (size_t i = held_count; i < held_count + n; i++)
            if (i % 2)
                slab_set_size(directory_find((uintptr_t)held[i].block), held[i].state, size - 1);
        held_count += n;
        got += n;
        if (n == 0 && !arena_grow(arena, class, arenas_zone_size()))
            return;
    }
}

static void give_all(struct arena *arena) {
    void *twice;
    for (size_t i = 0; i < held_count; i++)
        store_relaxed(held[i].state, STATE_USED);
    arena_lock(arena);
    arena_flush_locked(arena, held, held_count, &twice);
    arena_unlock(arena);
    held_count = 0;
}

/* ---------------------------------------------------------------------------------------------- what is told */
struct log {
    size_t zones, zone_ends, slabs, blocks, spans;
    struct walk_counts sum, of_slabs, last;
    bool in_order;
    uintptr_t zone, slab, block;
    size_t stop_after; /* calls; 0: none */
    size_t release_at; /* slab */
    struct arena *arena;
};

static bool goes_on(struct log *log) {
    return log->stop_after == 0 || --log->stop_after > 0;
}

static bool on_zone(void *argument, const struct walk_zone *zone) {
    struct log *log = argument;
    log->in_order &= log->zones++ == log->zone_ends && zone->start > log->zone && zone->counts.blocks == 0;
    log->zone = zone->start;
    return goes_on(log);
}

static bool on_slab(void *argument, const struct walk_zone *zone, const struct walk_slab *slab) {
    struct log *log = argument;
    log->in_order &= zone->start == log->zone && slab->start > log->slab && slab->start > zone->start;
    log->in_order &= (slab->counts.blocks > 0) == (slab->status == SLAB_CARVED);
    log->slab = slab->start;
    log->slabs += slab->status == SLAB_CARVED;
    log->of_slabs.blocks += slab->counts.blocks;
    log->of_slabs.live += slab->counts.live;
    log->of_slabs.live_bytes += slab->counts.live_bytes;
    log->of_slabs.free_bytes += slab->counts.free_bytes;
    return goes_on(log);
}

static bool on_block(void *argument, const struct walk_block *block) {
    struct log *log = argument;
    log->in_order &= block->start > log->block;
    if (block->category != WALK_LARGE)
        log->in_order &= block->start - log->slab < UNIT_SIZE && block->zone == log->zone;
    log->block = block->start;
    log->blocks++;
    return goes_on(log);
}

static bool on_zone_end(void *argument, const struct walk_zone *zone) {
    struct log *log = argument;
    log->in_order &= zone->start == log->zone && ++log->zone_ends == log->zones;
    log->sum.blocks += zone->counts.blocks;
    log->sum.live += zone->counts.live;
    log->sum.free += zone->counts.free;
    log->sum.live_bytes += zone->counts.live_bytes;
    log->sum.free_bytes += zone->counts.free_bytes;
    log->last = zone->counts;
    return goes_on(log);
}

static bool on_span(void *argument, const struct walk_span *span) {
    struct log *log = argument;
    log->spans++;
    return span->size > 0 && goes_on(log);
}

static const struct walk_visitor everything = {on_zone, on_slab, on_block, on_zone_end, on_span};

static struct log look(size_t stop_after) {
    struct log log = {.in_order = true, .stop_after = stop_after};
    arenas_walk_all(&everything, &log, &room);
    return log;
}

static void counts(struct arena *arena) {
    bool zeroed;
    take(arena, 1024, 3);
    take(arena, 30000, 2);
    void *large = large_take(100000, 100000, 1, &zeroed);
    struct log log = look(0);
    ok(log.in_order, "zones, their units and blocks come in order");
    ok(log.zones == 2 && log.zone_ends == 2 && log.slabs == 5 && log.spans == 1, "each is called");
    ok(log.sum.blocks == held_count && log.sum.live == held_count / 2 && log.sum.free == 0, "live, cached and free");
    ok(walk_cached(&log.sum) == held_count - held_count / 2, "what is out and not live is cached");
    ok(log.blocks == held_count / 2 + 1, "each live block is called, LARGE with the others");
    ok(log.sum.live == log.of_slabs.live && log.sum.live_bytes == log.of_slabs.live_bytes &&
           log.sum.free_bytes == log.of_slabs.free_bytes,
       "a zone's counts are the sums of its units'");
    ok(log.last.units[SLAB_CARVED] + log.last.units[SLAB_DIRTY] + log.last.units[SLAB_IDLE] ==
           ZONE_UNITS - 1 - HEADER_UNITS(ZONE_UNITS),
       "all units of a zone are counted");
    size_t calls = log.zones + log.zone_ends + log.spans + log.blocks + 2 * (ZONE_UNITS - 1 - HEADER_UNITS(ZONE_UNITS));
    bool stopped = true;
    for (size_t i = 1; i <= calls; i++) {
        struct log part = look(i);
        stopped &= part.stop_after == 0;
    }
    ok(stopped && look(calls + 1).stop_after == 1, "it ends at whichever call says so (%zu)", calls);
    large_give(large);
    give_all(arena);
}

static void liveness(struct arena *arena) {
    size_t size;
    bool zeroed;
    take(arena, 1000, 1);
    struct walk_block block = {.start = (uintptr_t)held[1].block, .size = 999, .category = WALK_TINY};
    ok(arenas_is_live(&block), "a live block is live");
    block.size = 998;
    ok(!arenas_is_live(&block), "not with another size");
    block = (struct walk_block){.start = (uintptr_t)held[0].block, .size = 999, .category = WALK_TINY};
    ok(!arenas_is_live(&block), "not one that is cached");
    ok(!arena_find_live(arena, (uintptr_t)held[1].block + 16, &size) && !arena_find_live(arena, 16, &size) &&
           !arena_find_live(arenas_at(1), (uintptr_t)held[1].block, &size),
       "nor inside of one, nor where nothing is, nor for another arena");
    uintptr_t was = (uintptr_t)held[1].block;
    give_all(arena);
    arenas_unmap_all();
    ok(!arena_find_live(arena, was, &size), "nor where a zone was");
    uintptr_t large = (uintptr_t)large_take(100000, 100000, 1, &zeroed);
    block = (struct walk_block){.start = large, .size = 100000, .category = WALK_LARGE};
    ok(arenas_is_live(&block), "a LARGE block is live");
    large_give((void *)large);
    ok(!arenas_is_live(&block), "not once it is freed");
}

/* ---------------------------------------------------------------------------------------- what changes meanwhile */
static bool release_all(void *argument, const struct walk_zone *zone, const struct walk_slab *slab) {
    struct log *log = argument;
    (void)zone;
    if (slab->status == SLAB_CARVED && ++log->slabs == log->release_at) {
        give_all(log->arena);
        arenas_unmap_all();
    }
    return true;
}

static void zones_go(struct arena *arena) {
    static const struct walk_visitor visitor = {.slab = release_all, .block = on_block};
    for (size_t release_at = 1; release_at < 2 * ZONE_UNITS; release_at += ZONE_UNITS + 10) {
        struct log log = {.in_order = true, .arena = arena, .release_at = release_at};
        take(arena, 65536, ZONES * ZONE_UNITS);
        arenas_walk_all(&visitor, &log, &room);
        ok(log.slabs == release_at, "zones that go at slab %zu are left out (%zu slabs)", release_at, log.slabs);
        ok(log.blocks <= release_at, "with their blocks");
    }
}

/* The other category takes the zone over. */
static bool retype(void *argument, const struct walk_zone *zone, const struct walk_slab *slab) {
    struct log *log = argument;
    if (zone->category == WALK_SMALL && slab->status == SLAB_CARVED && ++log->slabs == 1) {
        give_all(log->arena);
        take(log->arena, 100, 4);
    }
    return true;
}

static bool on_tiny(void *argument, const struct walk_block *block) {
    struct log *log = argument;
    log->in_order &= (block->category == WALK_TINY) == (block->capacity <= TINY_MAX);
    return true;
}

static void zones_change_sides(struct arena *arena) {
    static const struct walk_visitor visitor = {.slab = retype, .block = on_tiny};
    struct log log = {.in_order = true, .arena = arena};
    arenas_unmap_all();
    take(arena, 65536, 20);
    arenas_walk_all(&visitor, &log, &room);
    ok(log.slabs == 1 && log.in_order, "a zone that changes sides meanwhile is not shown as what it was");
    give_all(arena);
    arenas_unmap_all();
}

/* New ones, below and above where the walk is. */
static bool add_zones(void *argument, const struct walk_zone *zone) {
    struct log *log = argument;
    if (log->zones == 0)
        take(log->arena, 65536, ZONES * ZONE_UNITS);
    return on_zone(argument, zone);
}

static void zones_come(struct arena *arena) {
    static const struct walk_visitor visitor = {add_zones, on_slab, on_block, on_zone_end, NULL};
    struct log log = {.in_order = true, .arena = arena};
    take(arena, 65536, 1);
    arenas_walk_all(&visitor, &log, &room);
    ok(log.in_order && log.zones > 0, "zones that come meanwhile do not disturb the order");
    struct log again = look(0);
    ok(again.in_order && again.sum.blocks == held_count && again.zones > ZONES, "and are there in the next walk");
    give_all(arena);
}

/* ------------------------------------------------------------------------------------- with little room: in pieces */
struct trace {
    uint64_t hash;
    size_t blocks;
    size_t inner_each; /* blocks after which another walk is made in the midst of this one; 0: none is */
    struct arena *arena;
    uintptr_t unit;
    size_t in_unit;
};

static bool note_block(void *argument, const struct walk_block *block) {
    struct trace *trace = argument;
    const uint64_t values[] = {block->start, block->size, block->capacity, block->zone, block->arena, block->category};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        trace->hash = (trace->hash ^ values[i]) * UINT64_C(0x9e3779b97f4a7c15);
    trace->blocks++;
    if (trace->inner_each != 0 && trace->blocks % trace->inner_each == 0)
        arenas_walk(note_block, &(struct trace){.hash = 0});
    return true;
}

static void pieces(struct arena *arena) {
    static const struct walk_visitor visitor = {.block = note_block};
    struct trace whole = {.hash = 0}, in_pieces = {.hash = 0}, nested = {.inner_each = 100};
    bool zeroed;
    take(arena, 100, 3);
    take(arena, 300, 3);
    take(arena, 30000, 3);
    for (size_t i = 1; i < held_count; i += 6) /* what they lack does not fit into the state */
        slab_set_size(directory_find((uintptr_t)held[i].block), held[i].state, 1 + i % 30);
    void *large[] = {large_take(100000, 100000, 1, &zeroed), large_take(200000, 200000, 1, &zeroed)};
    arenas_walk_all(&visitor, &whole, &room);
    arenas_walk(note_block, &in_pieces);
    arenas_walk(note_block, &nested);
    ok(whole.blocks == held_count / 2 + 2, "%zu blocks", whole.blocks);
    ok(in_pieces.blocks == whole.blocks && in_pieces.hash == whole.hash, "a walk in pieces comes by the same blocks");
    ok(nested.blocks == whole.blocks && nested.hash == whole.hash, "also if others overtake it");
    large_give(large[0]);
    large_give(large[1]);
    give_all(arena);
}

/* Between two pieces the unit becomes a slab of another class. */
static bool carve_anew(void *argument, const struct walk_block *block) {
    struct trace *trace = argument;
    if (trace->blocks++ == 0) {
        trace->unit = round_down(block->start, UNIT_SIZE);
        give_all(trace->arena);
        take(trace->arena, 200, 1);
    }
    trace->in_unit += round_down(block->start, UNIT_SIZE) == trace->unit;
    return true;
}

static void carved_between(struct arena *arena) {
    struct trace trace = {.arena = arena};
    arenas_unmap_all();
    take(arena, 100, 1);
    arenas_walk(carve_anew, &trace);
    bool is_anew = round_down((uintptr_t)held[0].block, UNIT_SIZE) == trace.unit;
    ok(is_anew && trace.in_unit > 0 && trace.in_unit <= 64, "of a unit carved anew only the first piece is there (%zu)",
       trace.in_unit);
    give_all(arena);
}

int main(void) {
    arenas_boot(2);
    struct arena *arena = arenas_at(0); /* without what the constructor took */
    tcache_drain(tcache_current);
    arenas_unmap_all();
    counts(arena);
    liveness(arena);
    zones_go(arena);
    zones_change_sides(arena);
    zones_come(arena);
    pieces(arena);
    carved_between(arena);
    return tap_done();
}
