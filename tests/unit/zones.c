/*
 * An arena of many zones: what growth, release, purging, a change of category and a search look at does not depend on
 * their number. The headers of all zones are made inaccessible, so that the first look at each is a fault, which is
 * counted.
 */
#include "arenas.h"
#include "tap.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>

enum { ZONES = 1500, STEPS = 150, MOST = 60 };
#define BLOCKS_MAX (ZONE_SIZE_MIN / UNIT_SIZE)

static struct {
    char *header; /* NULL: released */
    struct entry blocks[BLOCKS_MAX];
    size_t count;
} zones[ZONES + STEPS + 1];
static size_t zone_count;

static volatile sig_atomic_t touched; /* headers, since all were protected */
static size_t worst;

static void protect(void *start, int rights) {
    if (mprotect(start, UNIT_SIZE, rights) != 0)
        abort();
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    touched++;
    protect(zone_of(info->si_addr), PROT_READ | PROT_WRITE);
}

/* After each step: what was looked at is protected again. */
static void count_touched(void) {
    worst = (size_t)touched > worst ? (size_t)touched : worst;
    for (size_t i = 0; i < zone_count; i++)
        if (zones[i].header != NULL)
            protect(zones[i].header, PROT_NONE);
    touched = 0;
}

static void report(const char *what) {
    ok(worst > 0 && worst <= MOST, "%s: at most %zu of %zu zones are looked at", what, worst, zone_count);
    worst = 0;
}

static size_t refill(struct arena *arena, unsigned class, struct entry *entries, size_t want) {
    arena_lock(arena);
    size_t got = arena_refill_locked(arena, class, entries, want);
    arena_unlock(arena);
    return got;
}

static void flush(struct arena *arena, const struct entry *entries, size_t count) {
    void *twice;
    arena_lock(arena);
    arena_flush_locked(arena, entries, count, &twice);
    arena_unlock(arena);
}

/* All that there is, in blocks of a unit each; how many. */
static size_t take_all(struct arena *arena, struct entry *blocks) {
    size_t count = 0;
    while (refill(arena, sizeclass_of(SMALL_MAX), &blocks[count], 1) == 1)
        count++;
    return count;
}

static bool add_zone(struct arena *arena) {
    if (!arena_grow(arena, sizeclass_of(SMALL_MAX), ZONE_SIZE_MIN))
        return false;
    size_t count = take_all(arena, zones[zone_count].blocks);
    zones[zone_count].header = (char *)zone_of(zones[zone_count].blocks[0].block);
    zones[zone_count++].count = count;
    return count > 0;
}

static size_t any_zone(void) {
    static unsigned seed = 11;
    for (;;) {
        seed = seed * 1103515245u + 12345u;
        size_t i = (seed >> 8) % zone_count;
        if (zones[i].header != NULL)
            return i;
    }
}

/* All of its blocks come back; gives its number. */
static size_t empty_any(struct arena *arena) {
    size_t i = any_zone();
    flush(arena, zones[i].blocks, zones[i].count);
    return i;
}

static void growth(struct arena *arena) {
    bool grown = true;
    for (int step = 0; step < STEPS; step++) {
        grown &= add_zone(arena);
        count_touched();
    }
    ok(grown, "the arena grows");
    report("growth");
}

static void purging(struct arena *arena) {
    bool purged = true;
    for (int step = 0; step < STEPS; step++) {
        size_t i = any_zone();
        flush(arena, zones[i].blocks, 1);
        purged &= arena_purge_oldest(arena) == UNIT_SIZE;
        purged &= refill(arena, sizeclass_of(SMALL_MAX), zones[i].blocks, 1) == 1;
        count_touched();
    }
    ok(purged, "a unit is purged, and serves again");
    report("purging");
}

/* Exchanges which cells of the zone are taken with `kept`. */
static void exchange_cells(size_t i, uint64_t kept[CELL_WORDS]) {
    struct zone *zone = (struct zone *)zones[i].header;
    for (size_t word = 0; word < CELL_WORDS; word++) {
        uint64_t taken = zone->cells_taken[word];
        zone->cells_taken[word] = kept[word];
        kept[word] = taken;
    }
}

/* As the first block of its zone, which was without. */
static bool put_back(const struct entry *entry) {
    size_t i = 0;
    while (i < STEPS && zones[i].header != (char *)zone_of(entry->block))
        i++;
    zones[i].blocks[0] = *entry;
    return i < STEPS;
}

/* Zones that have idle units and no cell left for a slab's states: a few are looked at, and the arena can grow. */
static void no_cells(struct arena *arena) {
    static uint64_t kept[STEPS][CELL_WORDS];
    struct entry entry;
    memset(kept, 0xff, sizeof kept);
    for (size_t i = 0; i < STEPS; i++) {
        flush(arena, zones[i].blocks, 1);
        arena_purge_oldest(arena);
        exchange_cells(i, kept[i]);
    }
    count_touched();
    worst = 0;
    bool none = refill(arena, sizeclass_of(SMALL_MAX), &entry, 1) == 0;
    count_touched();
    ok(none && worst <= CARVE_TRIES + 2, "of %d zones without cells %zu are looked at", STEPS, worst);
    bool added = add_zone(arena);
    for (size_t i = 0; i < STEPS; i++)
        exchange_cells(i, kept[i]);
    for (size_t i = 0; i < STEPS; i++)
        added &= refill(arena, sizeclass_of(SMALL_MAX), &entry, 1) == 1 && put_back(&entry);
    ok(added && arena_is_valid(arena), "a new zone serves first, and they do when they have cells again");
    count_touched();
    worst = 0;
}

static void search(struct arena *arena) {
    bool found = true;
    for (int step = 0; step < STEPS; step++) {
        uintptr_t start = zone_base((uintptr_t)zones[any_zone()].header);
        found &= arena_next_zone(arena, start).start == start;
        count_touched();
    }
    ok(found, "zones are found");
    report("a search");
}

static void change_of_category(struct arena *arena) {
    unsigned tiny = sizeclass_of(TINY_MAX);
    struct arena_totals before, after;
    struct entry entry;
    bool changed = true;
    arena_total(arena, &before);
    for (int step = 0; step < STEPS; step++) {
        size_t i = empty_any(arena);
        changed &= arena_grow(arena, tiny, ZONE_SIZE_MIN) && refill(arena, tiny, &entry, 1) == 1;
        changed &= (char *)zone_of(entry.block) == zones[i].header;
        flush(arena, &entry, 1);
        changed &= arena_grow(arena, sizeclass_of(SMALL_MAX), ZONE_SIZE_MIN);
        changed &= take_all(arena, zones[i].blocks) == zones[i].count;
        count_touched();
    }
    arena_total(arena, &after);
    ok(changed && after.zones == before.zones, "an empty zone serves the other category, and comes back");
    report("a change of category");
}

static void release(struct arena *arena) {
    bool released = true;
    for (int step = 0; step < STEPS; step++) {
        size_t i = empty_any(arena);
        zones[i].header = NULL;
        released &= arena_release_zone(arena);
        count_touched();
    }
    ok(released, "empty zones are released");
    report("a release");
}

int main(void) {
    struct arena *arena = arenas_at(0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    bool grown = true;
    while (grown && zone_count < ZONES)
        grown = add_zone(arena);
    ok(grown, "%d zones, all of them full", ZONES);
    sigaction(SIGSEGV, &action, NULL);
    count_touched();
    growth(arena);
    purging(arena);
    no_cells(arena);
    search(arena);
    change_of_category(arena);
    release(arena);
    ok(arena_is_valid(arena), "valid at last");
    return tap_done();
}
