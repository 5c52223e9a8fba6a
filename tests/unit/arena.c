/* Arenas: batches, units and zones that serve another class without a new mapping, and the retention contract. */
#include "account.h"
#include "arenas.h"
#include "large.h"
#include "os.h"
#include "tap.h"
#include <string.h>

#define MANY 20000

static unsigned seed = 99;
static unsigned next_random(unsigned below) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

static struct entry held[CLASSES][MANY];
static size_t counts[CLASSES];

static size_t refill(struct arena *arena, unsigned class, struct entry *entries, size_t want) {
    for (;;) {
        arena_lock(arena);
        size_t got = arena_refill_locked(arena, class, entries, want);
        arena_unlock(arena);
        if (got > 0 || !arena_grow(arena, class, arenas_zone_size()))
            return got;
    }
}

static size_t flush(struct arena *arena, const struct entry *entries, size_t count) {
    void *twice;
    arena_lock(arena);
    size_t doubles = arena_flush_locked(arena, entries, count, &twice);
    arena_unlock(arena);
    return doubles;
}

static void batches(struct arena *arena) {
    struct entry entries[64];
    size_t got = refill(arena, 3, entries, 64);
    bool descending = got == 64;
    for (size_t i = 1; i < got; i++)
        descending &= (uintptr_t)entries[i].block < (uintptr_t)entries[i - 1].block;
    ok(descending, "a refill's lowest block is on top, so that they pop in address order");
    ok(flush(arena, entries, 10) == 0 && flush(arena, entries, 3) == 3, "flush sees blocks that are there already");
    ok(flush(arena, entries + 10, got - 10) == 0, "and takes the others back");
    ok(flush(arena, entries, 3) == 3, "and sees them when their slab is given up");
    ok(arena_is_valid(arena), "valid");
}

static struct batch batch;

static size_t flush_batch(void **twice) {
    size_t doubles = arenas_flush(&batch, twice);
    return load_relaxed(&batch.count) == 0 && batch.owners == 0 ? doubles : MANY;
}

/* As a thread frees a block of another arena. */
static size_t give(const struct entry *entry) {
    void *twice;
    size_t doubles = 0;
    struct bundle *bundle = batch_find(&batch, entry->state);
    if (bundle != NULL) {
        batch_add(bundle, entry->state);
        return 0;
    }
    if (load_relaxed(&batch.count) == OUTGOING_BUNDLES)
        doubles = flush_batch(&twice);
    batch_add_bundle(&batch, directory_find((uintptr_t)entry->block), entry->block, entry->state);
    return doubles;
}

static size_t blocks_out(struct arena *arena) {
    struct arena_totals totals;
    arena_total(arena, &totals);
    return totals.counts.refilled - totals.counts.flushed;
}

/* Blocks of two arenas come back by way of a batch: in the order in which they were taken, and in any. */
static void bundles(struct arena *one, struct arena *other) {
    static const size_t sizes[] = {16, 48, 272, 1024, 3000, 30000};
    void *twice;
    size_t out = blocks_out(one), out_of_other = blocks_out(other), doubles = 0, got = 0;
    for (size_t round = 0; round < 2; round++) {
        for (got = 0; got < MANY - 64;) {
            unsigned class = sizeclass_of(sizes[next_random(6)]);
            got += refill(next_random(2) == 0 ? one : other, class, held[0] + got, 1 + next_random(64));
        }
        for (size_t i = 0; round == 1 && i < got; i++) {
            size_t with = next_random((unsigned)got);
            struct entry entry = held[0][i];
            held[0][i] = held[0][with];
            held[0][with] = entry;
        }
        for (size_t i = 0; i < got; i++)
            doubles += give(&held[0][i]);
        doubles += flush_batch(&twice);
    }
    ok(doubles == 0 && blocks_out(one) == out && blocks_out(other) == out_of_other && arena_is_valid(one) &&
           arena_is_valid(other),
       "bundles of two arenas' blocks are all taken back");

    got = refill(one, sizeclass_of(48), held[0], 100);
    for (size_t i = 0; i < got; i++)
        give(&held[0][i]);
    ok(got == 100 && load_relaxed(&batch.count) <= 3, "100 blocks that were taken in a row are 3 bundles at the most");
    give(&held[0][70]);
    ok(flush_batch(&twice) == 1 && twice == held[0][70].block, "one of them that is freed again is found out");

    got = refill(one, sizeclass_of(48), held[0], 2);
    give(&held[0][0]);
    give(&held[0][1]);
    flush(one, held[0], 2);
    ok(flush_batch(&twice) == 2 && (twice == held[0][0].block || twice == held[0][1].block) && arena_is_valid(one),
       "and so are those whose slab is given up meanwhile");
    arenas_purge_all();
    refill(one, sizeclass_of(48), held[0], 1);
    give(&held[0][0]);
    flush(one, held[0], 1);
    got = refill(one, sizeclass_of(64), held[0] + 1, 64); /* of the only unit that is dirty */
    ok(slab_class(directory_find((uintptr_t)held[0][0].block)) == sizeclass_of(64) && flush_batch(&twice) == 1 &&
           twice == held[0][0].block && arena_is_valid(one),
       "or carved anew");
    flush(one, held[0] + 1, got);
}

static void reuse(struct arena *arena) {
    size_t got = 0;
    while (got < MANY)
        got += refill(arena, sizeclass_of(512), held[0] + got, MANY - got);
    size_t mapped = os_mapped();
    flush(arena, held[0], got);
    for (got = 0; got < MANY / 2;)
        got += refill(arena, sizeclass_of(1000), held[0] + got, MANY / 2 - got);
    ok(os_mapped() == mapped, "freed units serve another class of their category: no new mapping");
    flush(arena, held[0], got);
    size_t small = refill(arena, sizeclass_of(30000), held[0], 2);
    ok(small > 0 && os_mapped() == mapped, "an empty TINY zone serves SMALL: no new mapping");
    size_t tiny = refill(arena, sizeclass_of(1000), held[1], 10);
    ok(tiny > 0 && arena_is_valid(arena), "and no block of a TINY class comes from it then");
    flush(arena, held[1], tiny);
    flush(arena, held[0], small);
}

/* Flushes those blocks of held[0] that lie in `zone`, but for `left` of them, and purges them. */
static void empty_zone(struct arena *arena, const struct zone *zone, size_t left) {
    for (size_t i = 0; i < counts[0]; i++) {
        if (held[0][i].block == NULL || zone_of(held[0][i].block) != zone)
            continue;
        if (left > 0) {
            left--;
            continue;
        }
        flush(arena, &held[0][i], 1);
        held[0][i].block = NULL;
    }
    while (arena_purge_oldest(arena) > 0)
        continue;
}

/* Full zones of the largest blocks, each of which is a unit. */
static void idle_units(struct arena *arena) {
    unsigned class = sizeclass_of(SMALL_MAX);
    struct entry entry;
    size_t before;
    counts[0] = 0;
    do {
        before = os_mapped();
        counts[0] += refill(arena, class, held[0] + counts[0], 1);
    } while (counts[0] < 2 * ZONE_UNITS || os_mapped() == before);
    flush(arena, &held[0][--counts[0]], 1); /* the only one of its zone: all that stay are full */
    while (arena_release_zone(arena))
        continue;
    const struct zone *low = zone_of(held[0][0].block), *high = low;
    for (size_t i = 0; i < counts[0]; i++) {
        const struct zone *zone = zone_of(held[0][i].block);
        low = zone < low ? zone : low;
        high = zone > high ? zone : high;
    }
    size_t mapped = os_mapped();
    empty_zone(arena, high, 5);
    bool is_there = refill(arena, class, &entry, 1) == 1 && zone_of(entry.block) == high;
    ok(is_there && os_mapped() == mapped, "purged units serve again");
    flush(arena, &entry, 1);
    empty_zone(arena, low, 1);
    bool is_lowest = refill(arena, class, &entry, 1) == 1 && zone_of(entry.block) == low;
    ok(is_lowest && arena_is_valid(arena), "those of the lowest zone first");
    flush(arena, &entry, 1);
    empty_zone(arena, low, 0);
    ok(os_mapped() < mapped, "an empty zone is unmapped when its last unit is purged");
    mapped = os_mapped();
    bool is_next = refill(arena, class, &entry, 1) == 1 && zone_of(entry.block) == high;
    ok(is_next && os_mapped() == mapped && arena_is_valid(arena),
       "and the next zone's units serve, without a new mapping");
    flush(arena, &entry, 1);
    for (size_t i = 0; i < counts[0]; i++)
        if (held[0][i].block != NULL)
            flush(arena, &held[0][i], 1);
    counts[0] = 0;
}

static bool contract_holds(void) {
    return account_retained() <= max_size(RETAINED_MIN, account_live() / RETAINED_DIVISOR) + account_swing();
}

/* Far more than the contract lets be retained comes back, bit by bit. */
static void contract(struct arena *arena) {
    size_t got = 0;
    size_t broken = 0;
    while (got < MANY)
        got += refill(arena, sizeclass_of(4096), held[0] + got, MANY - got);
    for (size_t i = 0; i < got; i += 100) {
        flush(arena, held[0] + i, min_size(100, got - i));
        arenas_keep_contract();
        broken += !contract_holds();
    }
    ok(broken == 0 && account_retained() > 0,
       "80 MiB come back: what is retained keeps to its bound after every flush");
}

static void random_use(struct arena *arena) {
    size_t invalid = 0, lost = 0, broken = 0;
    for (int step = 0; step < 6000; step++) {
        unsigned class = next_random(CLASSES);
        size_t want = 1 + next_random(100);
        if (next_random(2) == 0 && counts[class] + want <= MANY) {
            counts[class] += refill(arena, class, held[class] + counts[class], want);
        } else if (counts[class] > 0) {
            want = min_size(want, counts[class]);
            counts[class] -= want;
            lost += flush(arena, held[class] + counts[class], want);
            arenas_keep_contract();
            broken += !contract_holds();
        }
        if (step % 200 == 0)
            invalid += !arena_is_valid(arena);
    }
    ok(invalid == 0 && lost == 0, "valid under 6,000 random batches");
    for (unsigned class = 0; class < CLASSES; class ++) {
        flush(arena, held[class], counts[class]);
        counts[class] = 0;
        arenas_keep_contract();
        broken += !contract_holds();
    }
    ok(broken == 0, "and the contract kept after every flush");
    arenas_purge_all();
    ok(account_retained() == 0 && arena_is_valid(arena), "nothing is retained after a purge of all");
}

static void no_new_peak(struct arena *arena) {
    size_t got = 0;
    bool zeroed;
    account_set_retained_min(16 * MIB); /* whatever was learned of swings before */
    void *passing = large_take(2 * MIB, 2 * MIB, 1, &zeroed);
    while (got < MANY)
        got += refill(arena, sizeclass_of(512), held[0] + got, MANY - got);
    arenas_keep_contract(); /* as after every refill: this is a peak */
    large_give(passing);
    large_unmap_free(true);
    flush(arena, held[0], got);
    arenas_keep_contract();
    size_t retained = account_retained();
    void *low = large_take(MIB, MIB, 1, &zeroed);
    arenas_keep_contract();
    ok(retained > 9 * MIB && account_retained() == retained, "below the peak nothing is purged");
    void *high = large_take(300 * MIB, 300 * MIB, 1, &zeroed);
    arenas_keep_contract();
    ok(account_retained() == 0, "a new peak is reached with nothing retained");
    large_give(low);
    large_give(high);
    arenas_keep_contract();
}

/* What is behind the last slab goes, and what is before it stays; then the zone is full sooner. */
static void shortening(struct arena *arena) {
    enum { SLABS = 5 };
    struct entry entries[SLABS], more[ZONE_UNITS];
    size_t got = 0, later = 0;
    while (arena_release_zone(arena) || arena_purge_oldest(arena) > 0)
        ;
    for (size_t i = 0; i < SLABS; i++)
        got += refill(arena, sizeclass_of(SMALL_MAX), &entries[i], 1);
    size_t mapped = os_mapped(), idle = ZONE_UNITS - 1 - HEADER_UNITS(ZONE_UNITS) - SLABS;
    struct zone *zone = zone_of(entries[0].block);
    unsigned units = zone->units;
    zone->purging_count++;
    arena_shorten_zones(arena);
    zone->purging_count--;
    ok(zone->units == units, "not of a zone in which another thread purges, or which it shortens");
    mapped = os_mapped();
    bool shortened = arena_shorten_zones(arena);
    ok(got == SLABS && shortened && mapped - os_mapped() >= idle * UNIT_SIZE && arena_is_valid(arena),
       "%zu KiB of idle units at the ends of zones are unmapped", (mapped - os_mapped()) / KIB);
    memset(entries[SLABS - 1].block, 1, SMALL_MAX);
    ok(!arena_shorten_zones(arena) && flush(arena, entries, 1) == 0 && !arena_shorten_zones(arena) &&
           arena_is_valid(arena),
       "units before the last slab stay");
    for (size_t i = 0; i < ZONE_UNITS; i++)
        later += refill(arena, sizeclass_of(SMALL_MAX), &more[i], 1);
    ok(later == ZONE_UNITS && flush(arena, more, later) == 0 && flush(arena, entries + 1, SLABS - 1) == 0 &&
           arena_is_valid(arena),
       "the arena grows by other zones");
    while (arena_release_zone(arena))
        ;
}

static size_t visited;
static bool count_block(void *argument, const struct walk_block *block) {
    (void)argument;
    (void)block;
    visited++;
    return true;
}

int main(void) {
    struct arena *arena = arenas_at(0);
    batches(arena);
    bundles(arena, arenas_at(arenas_count() - 1));
    reuse(arena);
    idle_units(arena);
    contract(arena);
    random_use(arena);
    no_new_peak(arena);
    shortening(arena);
    arenas_walk(count_block, NULL);
    ok(visited == 0, "blocks that are taken but not live are not in the register");
    return tap_done();
}
