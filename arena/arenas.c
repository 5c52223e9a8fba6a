#include "arenas.h"
#include "account.h"
#include "ledger.h"
#include "message.h"
#include "os.h"

#define PIECE_BLOCKS 128 /* of a slab that are looked at in one piece, where a stack is to be small; and of spans */
#define PIECE_SPANS  8

SPARSE static struct arena arenas[ARENAS_MAX];
SPARSE ALIGNED(4096) static struct partial partials[ARENAS_MAX]; /* the first, which every process uses, on few pages */
static unsigned arena_count;                                     /* constant after boot, as the next */
static size_t zone_size_wanted = ZONE_SIZE_MAX;
static atomic_uint join_limit = ARENAS_MAX; /* only so many arenas are given to threads */
static atomic_uint thread_numbers;
static atomic_bool purging; /* by some thread: one at a time is enough */

void arenas_boot(unsigned count) {
    size_t limit = os_memory_limit();
    while (zone_size_wanted > ZONE_SIZE_MIN && zone_size_wanted > limit / ZONE_LIMIT_DIV)
        zone_size_wanted /= 2;
    if (count == 0) {
        unsigned wanted = os_cpu_count() * ARENAS_PER_CPU;
        for (count = 1; count < wanted && count < ARENAS_MAX;)
            count *= 2;
        count = (unsigned)max_size(1, min_size(count, limit / ARENAS_LIMIT_BYTES));
    }
    arena_count = count;
    for (unsigned i = 0; i < count; i++) {
        arenas[i].index = (uint16_t)i;
        arenas[i].partial = &partials[i];
        arenas[i].lock.rank = LOCK_ARENA + i;
        store_relaxed(&arenas[i].oldest, UINT64_MAX);
    }
}

unsigned arenas_count(void) {
    return arena_count;
}

struct arena *arenas_at(unsigned index) {
    ASSERT(index < arena_count);
    return &arenas[index];
}

size_t arenas_zone_size(void) {
    return zone_size_wanted;
}

/* ------------------------------------------------------------------------------------------------- threads */
struct arena *arenas_join(void) {
    unsigned number = add_relaxed(&thread_numbers, 1);
    unsigned limit = (unsigned)min_size(arena_count, load_relaxed(&join_limit));
    /* Threads that came before have left their zones half used: those first, lowest first. */
    unsigned used = number < limit ? number : limit;
    for (unsigned i = 0; i < used; i++) {
        unsigned none = 0;
        if (load_relaxed(&arenas[i].threads) == 0 &&
            atomic_compare_exchange_strong_explicit(&arenas[i].threads, &none, 1, memory_order_relaxed,
                                                    memory_order_relaxed))
            return &arenas[i];
    }
    struct arena *arena = &arenas[number % limit];
    add_relaxed(&arena->threads, 1);
    return arena;
}

void arenas_leave(struct arena *arena) {
    sub_relaxed(&arena->threads, 1);
}

void arenas_limit_joining(unsigned count) {
    store_relaxed(&join_limit, count);
}

/* ------------------------------------------------------------------------------------------------- batches */
static unsigned owner_of(const struct bundle *bundle) {
    return slab_arena(directory_find(bundle->word));
}

/* Sorts the bundles of `owner` to the end, keeping their order; gives the number of the others. */
static size_t partition(struct bundle *bundles, size_t count, unsigned owner) {
    size_t others = 0;
    while (others < count && owner_of(&bundles[others]) != owner)
        others++;
    for (size_t i = others; i < count; i++) {
        if (owner_of(&bundles[i]) == owner)
            continue;
        struct bundle bundle = bundles[i];
        bundles[i] = bundles[others];
        bundles[others++] = bundle;
    }
    return others;
}

size_t arenas_flush(struct batch *batch, void **twice) {
    size_t doubles = 0;
    while (batch->owners != 0) {
        struct arena *arena = &arenas[__builtin_ctzll(batch->owners)];
        bool is_last = is_power_of_two(batch->owners); /* then all that is there is its */
        arena_lock(arena);
        size_t count = load_relaxed(&batch->count);
        size_t others = is_last ? 0 : partition(batch->bundles, count, arena->index);
        doubles += arena_flush_bundles_locked(arena, batch->bundles + others, count - others, twice);
        batch->owners &= batch->owners - 1;
        store_relaxed(&batch->count, others);
        arena_unlock(arena);
    }
    return doubles;
}

/* ----------------------------------------------------------------------------------------------- retention */

/* Whose is the oldest thing that is retained: an arena's, or with NULL LARGE's. false: nothing is. */
static bool find_oldest(struct arena **owner) {
    uint64_t oldest = large_oldest();
    *owner = NULL;
    for (unsigned i = 0; i < arena_count; i++) {
        uint64_t stamp = load_relaxed(&arenas[i].oldest);
        if (stamp < oldest) {
            oldest = stamp;
            *owner = &arenas[i];
        }
    }
    return oldest != UINT64_MAX;
}

/*
 * Purges that many bytes, or all that there is; 0: another thread is at it. The flag is set and cleared by
 * read-modify-writes: so what was retained before a thread was turned away is seen by the one that was purging, when it
 * looks again.
 */
static size_t purge(size_t bytes) {
    size_t purged = 0;
    struct arena *owner;
    if (atomic_exchange_explicit(&purging, true, memory_order_acq_rel))
        return 0;
    while (purged < bytes && find_oldest(&owner))
        purged += owner != NULL ? arena_purge_oldest(owner) : large_purge_oldest(bytes - purged);
    atomic_exchange_explicit(&purging, false, memory_order_acq_rel);
    return purged;
}

void arenas_keep_contract(void) {
    size_t excess = account_excess_of_peak(), purged;
    if (UNLIKELY(excess > 0))
        purge(excess);
    while (UNLIKELY((excess = account_excess()) > 0) && (purged = purge(excess)) > 0)
        account_note_purged(purged);
}

/* Of a block's zone, or span, whatever has become of the block. */
static bool is_there(uintptr_t address, unsigned arena) {
    struct large_view view;
    unsigned owner;
    return arena == ARENA_NONE ? large_find(address, &view) : directory_find_zone(address, &owner);
}

bool arenas_sweep_ledger(void) {
    return ledger_is_due() && ledger_sweep(is_there);
}

static bool unmap_all(bool gaps) {
    bool any = large_unmap_free(gaps);
    for (unsigned i = 0; i < arena_count; i++)
        while (arena_release_zone(&arenas[i]))
            any = true;
    directory_purge(0, UINTPTR_MAX);
    while (arenas_sweep_ledger())
        ;
    return any;
}

bool arenas_purge_all(void) {
    size_t purged = purge(SIZE_MAX);
    return unmap_all(false) || purged > 0;
}

bool arenas_unmap_all(void) {
    bool any = unmap_all(true);
    for (unsigned i = 0; i < arena_count; i++)
        any |= arena_shorten_zones(&arenas[i]);
    return any;
}

/* ------------------------------------------------------------------------------------------------ the walk */
struct walk {
    const struct walk_visitor *visitor;
    void *argument;
    struct slab_view slab;    /* the last one that was looked at, and the room for it */
    struct large_view *spans; /* room for span_room of them */
    size_t span_room;
};

/* Calls one of the visitor's functions, if it has that one. */
#define VISIT(walk, function, ...)                                                                                     \
    ((walk)->visitor->function == NULL || (walk)->visitor->function((walk)->argument, __VA_ARGS__))

static size_t size_in_view(const struct slab_view *view, uint32_t i) {
    size_t state = load_relaxed(&view->states[i]);
    return view->block_size - (state == STATE_WIDE ? load_relaxed(&view->slacks[i]) : state - STATE_LIVE);
}

static bool is_live_in_view(const struct slab_view *view, uint32_t i) {
    return load_relaxed(&view->states[i]) >= STATE_LIVE;
}

static void add_counts(struct walk_counts *sum, const struct walk_counts *counts) {
    for (unsigned status = 0; status <= SLAB_CARVED; status++)
        sum->units[status] += counts->units[status];
    sum->blocks += counts->blocks;
    sum->live += counts->live;
    sum->free += counts->free;
    sum->live_bytes += counts->live_bytes;
    sum->free_bytes += counts->free_bytes;
}

/* The counts are of the whole slab only if there was room for it. */
static bool walk_slab(const struct walk *walk, struct walk_zone *zone) {
    const struct slab_view *view = &walk->slab;
    uint32_t count = view->end - view->first;
    uintptr_t start = view->base + view->first * view->block_size;
    struct walk_slab slab = {.start = view->base, .status = view->status, .block_size = view->block_size};
    slab.counts = (struct walk_counts){
        .blocks = view->blocks, .free = view->free, .free_bytes = (size_t)view->free * view->block_size};
    slab.counts.units[view->status] = 1;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_live_in_view(view, i))
            continue;
        slab.counts.live++;
        slab.counts.live_bytes += size_in_view(view, i);
    }
    add_counts(&zone->counts, &slab.counts);
    if (!VISIT(walk, slab, zone, &slab))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_live_in_view(view, i))
            continue;
        struct walk_block block = {.start = start + i * view->block_size,
                                   .size = size_in_view(view, i),
                                   .capacity = view->block_size,
                                   .zone = zone->start,
                                   .category = zone->category,
                                   .arena = zone->arena};
        if (!VISIT(walk, block, &block))
            return false;
    }
    return true;
}

/* A unit in as many pieces as the room asks for. If its blocks are others' by the next, none was live all the while. */
static bool walk_unit(struct walk *walk, struct arena *arena, const struct zone_view *view, unsigned unit,
                      struct walk_zone *zone) {
    struct slab_view *slab = &walk->slab;
    if (!arena_view_slab(arena, view, unit, 0, slab))
        return true;
    unsigned class = slab->class;
    do {
        if (!walk_slab(walk, zone))
            return false;
    } while (slab->end < slab->blocks && arena_view_slab(arena, view, unit, slab->end, slab) && slab->class == class);
    return true;
}

static bool walk_zone(struct walk *walk, struct arena *arena, const struct zone_view *view) {
    struct walk_zone zone = {.start = view->start,
                             .size = view->size,
                             .first_unit = view->first_unit,
                             .units = view->units,
                             .category = (enum walk_category)view->category,
                             .arena = arena->index};
    if (!VISIT(walk, zone, &zone))
        return false;
    for (unsigned unit = view->first_unit; unit < view->units; unit++)
        if (!walk_unit(walk, arena, view, unit, &zone))
            return false;
    return VISIT(walk, zone_end, &zone);
}

/* LARGE spans that start in [from, to). */
static bool walk_large(const struct walk *walk, uintptr_t from, uintptr_t to) {
    struct large_view *views = walk->spans;
    for (;;) {
        size_t count = large_list(from, views, walk->span_room);
        for (size_t i = 0; i < count; i++) {
            if (views[i].start >= to)
                return true;
            /* What starts inside of it later was not there when it was looked at. */
            from = views[i].start + views[i].span;
            struct walk_span span = {views[i].start, views[i].span, views[i].kind};
            if (!VISIT(walk, span, &span))
                return false;
            if (views[i].kind != LARGE_LIVE)
                continue;
            struct walk_block block = {.start = views[i].start,
                                       .size = views[i].size,
                                       .capacity = views[i].span,
                                       .zone = views[i].start,
                                       .category = WALK_LARGE,
                                       .arena = ARENA_NONE};
            if (!VISIT(walk, block, &block))
                return false;
        }
        if (count < walk->span_room)
            return true;
    }
}

static NOINLINE void walk_through(struct walk *walk) {
    uintptr_t from = 0;
    for (;;) {
        struct zone_view lowest = {.start = UINTPTR_MAX};
        struct arena *owner = NULL;
        for (unsigned i = 0; i < arena_count; i++) {
            struct zone_view zone = arena_next_zone(&arenas[i], from);
            if (zone.start != 0 && zone.start < lowest.start) {
                lowest = zone;
                owner = &arenas[i];
            }
        }
        if (!walk_large(walk, from, lowest.start) || owner == NULL || !walk_zone(walk, owner, &lowest))
            return;
        from = lowest.start + lowest.size;
    }
}

void arenas_walk_all(const struct walk_visitor *visitor, void *argument, struct walk_room *room) {
    struct walk walk = {visitor, argument, slab_view_in(&room->slab), room->spans, WALK_SPANS};
    walk_through(&walk);
}

struct block_walk {
    bool (*visit)(void *argument, const struct walk_block *block);
    void *argument;
};

static bool visit_block(void *argument, const struct walk_block *block) {
    const struct block_walk *walk = argument;
    return walk->visit(walk->argument, block);
}

void arenas_walk(bool (*visit)(void *argument, const struct walk_block *block), void *argument) {
    static const struct walk_visitor blocks_only = {.block = visit_block};
    struct block_walk block_walk = {visit, argument};
    uint64_t taken[PIECE_BLOCKS / 64];
    state_byte states[PIECE_BLOCKS];
    slack_word slacks[PIECE_BLOCKS];
    struct large_view spans[PIECE_SPANS];
    struct walk walk = {.visitor = &blocks_only,
                        .argument = &block_walk,
                        .slab = {.room = PIECE_BLOCKS, .taken = taken, .states = states, .slacks = slacks},
                        .spans = spans,
                        .span_room = PIECE_SPANS};
    walk_through(&walk);
}

bool arenas_is_live(const struct walk_block *block) {
    struct large_view view;
    size_t size;
    if (block->category != WALK_LARGE)
        return arena_find_live(&arenas[block->arena], block->start, &size) && size == block->size;
    return large_find(block->start, &view) && view.kind == LARGE_LIVE && view.start == block->start &&
           view.size == block->size;
}

/* ----------------------------------------------------------------------------------------------------- fork */
void arenas_lock_all(void) {
    for (unsigned i = 0; i < arena_count; i++)
        arena_lock(&arenas[i]);
}

void arenas_unlock_all(void) {
    for (unsigned i = 0; i < arena_count; i++)
        arena_unlock(&arenas[i]);
}

void arenas_reset_locks(struct arena *mine) {
    store_relaxed(&purging, false);
    for (unsigned i = 0; i < arena_count; i++) {
        store_relaxed(&arenas[i].threads, &arenas[i] == mine);
        arena_reset_lock(&arenas[i]);
    }
}
