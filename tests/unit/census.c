/*
 * The census, which counts the register slab by slab, against the accounts that the slow paths keep: what is live and
 * retained, what is mapped, and what each arena's counters say; after every few hundred random operations.
 */
#include "census.h"
#include "account.h"
#include "arenas.h"
#include "history.h"
#include "large.h"
#include "ledger.h"
#include "os.h"
#include "process.h"
#include "quarantine.h"
#include "tap.h"

#define SLOTS 3000
#define STEPS 60000

static unsigned seed = 4711;
static unsigned next_random(unsigned below) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

static void *slots[SLOTS];

static void step(void) {
    void **slot = &slots[next_random(SLOTS)];
    unsigned kind = next_random(100);
    if (kind >= 5) { /* else it is resized, to LARGE or within it */
        cadastre_free(*slot);
        *slot = NULL;
    }
    if (kind < 8)
        *slot = cadastre_realloc(*slot, 65537 + next_random(1000000));
    else if (kind < 95)
        *slot = cadastre_malloc(1 + next_random(kind < 70 ? 1024 : 60000));
}

static size_t wrong;
static struct census_room room;

static void compare(const char *what, size_t step_number, uint64_t counted, uint64_t kept) {
    if (counted != kept && wrong++ == 0)
        diag("step %zu: %s: counted %llu, account %llu", step_number, what, (unsigned long long)counted,
             (unsigned long long)kept);
}

static void check(size_t number) {
    struct cadastre_stats stats;
    struct cadastre_arena_stats of_arena;
    const struct cadastre_memory *mapped = &stats.mapped;
    census_all(&room, &stats, NULL);
    compare("live", number, mapped->live + mapped->rounding + mapped->caches + mapped->outgoing + mapped->retired,
            account_live());
    compare("retained", number, mapped->retained, account_retained());
    compare("mapped", number, mapped->total, os_mapped());
    compare("other", number, mapped->other, 0);
    for (unsigned i = 0; i < arenas_count(); i++) {
        struct arena_totals totals;
        uint64_t outside = 0;
        arena_total(arenas_at(i), &totals);
        census_arena(&room, i, &of_arena);
        for (unsigned class = 0; class < CLASSES; class ++)
            outside += of_arena.classes[class].live + of_arena.classes[class].cached;
        compare("blocks outside of slabs", number, outside, totals.counts.refilled - totals.counts.flushed);
        compare("arena's zones", number, of_arena.mapped.total, totals.mapped);
    }
}

/* Past the spans that the thread keeps. */
static void *take_large(size_t size) {
    bool zeroed;
    return large_take(size, size, 1, &zeroed);
}

static size_t guards_behind(size_t size) {
    const size_t page = os_page_size();
    return max_size(page, round_down(round_up(size, page) / 8, page));
}

/* The debugging modes' own memory, and what they do to LARGE blocks. */
static void debugging(void) {
    struct cadastre_stats before;
    struct cadastre_stats now;
    bool on = history_boot(1000) && quarantine_boot(MIB) && ledger_put((struct ledger_entry){.address = 16});
    census_all(&room, &before, NULL);
    ok(on && before.mapped.debug > 0 && before.mapped.other == 0, "ledger, history and quarantine are counted");
    large_guard_edges();
    void *guarded = take_large(100000);
    struct quarantined held = {take_large(200000), 0};
    held.capacity = cadastre_malloc_usable_size(held.block);
    on = large_hold(held.block) && quarantine_put(held, &(struct quarantined){0});
    census_all(&room, &now, NULL);
    size_t behind = guards_behind(100000) + guards_behind(200000);
    ok(now.mapped.guards == before.mapped.guards + 2 * os_page_size() + behind && now.mapped.other == 0,
       "guard pages of LARGE blocks are counted");
    ok(on && now.mapped.quarantine == held.capacity && now.large_blocks == before.large_blocks + 1,
       "a LARGE block that is held back is not live");
    ok(now.mapped.caches == before.mapped.caches && before.mapped.caches > held.capacity &&
           now.mapped.idle == before.mapped.idle,
       "and nothing else either");
    on = quarantine_take(&held) && large_give_held(held.block);
    large_give(guarded);
    census_all(&room, &now, NULL);
    ok(on && now.mapped.guards == before.mapped.guards && now.mapped.quarantine == 0 && now.mapped.other == 0,
       "and both go");
}

/* The upper of two neighbours goes back to the kernel, and the lower one grows into its place. */
static void growth_in_place(void) {
    const size_t size = 6 * MIB;
    char *blocks[] = {take_large(size), take_large(size)};
    bool first_is_lower = blocks[0] < blocks[1];
    char *lower = blocks[!first_is_lower];
    if (lower + size != blocks[first_is_lower])
        diag("the kernel did not place them side by side");
    large_give(blocks[first_is_lower]);
    large_unmap_free(true);
    char *grown = large_resize(lower, size + MIB, true);
    diag("%s", grown == lower ? "grown in place" : "moved");
    check(STEPS);
    ok(wrong == 0, "a block that the kernel resized is counted as it is now");
    large_give(grown);
}

int main(void) {
    cadastre_free(cadastre_malloc(1));
    for (size_t i = 0; i < STEPS; i++) {
        step();
        if (i % 300 == 0)
            check(i);
    }
    ok(wrong == 0, "what is counted is what the accounts say, all through %d operations", STEPS);
    growth_in_place();
    for (size_t i = 0; i < SLOTS; i++)
        cadastre_free(slots[i]);
    check(STEPS);
    debugging();
    process_drain();
    arenas_purge_all();
    check(STEPS);
    ok(wrong == 0, "once all is freed, drained and purged, too");
    struct cadastre_stats stats;
    struct cadastre_memory resident;
    census_all(&room, &stats, &resident);
    ok(stats.mapped.retained == 0 && stats.live_blocks == 0 && stats.cached_blocks == 0 && stats.mapped.headers == 0,
       "then nothing is left of zones");
    ok(resident.total < stats.mapped.total && resident.idle == 0, "and what is purged is not resident");
    return tap_done();
}
