/*
 * The census, which counts the register slab by slab, against the accounts that the slow paths keep: what is live and
 * retained, what is mapped, and what each arena's counters say; after every few hundred random operations.
 */
#include "census.h"
#include "arenas.h"
#include "history.h"
#include "large.h"
#include "ledger.h"
#include "os.h"
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

static void compare(const char *what, size_t step_number, uint64_t counted, uint64_t kept) {
    if (counted != kept && wrong++ == 0)
        diag("step %zu: %s: counted %llu, account %llu", step_number, what, (unsigned long long)counted,
             (unsigned long long)kept);
}

static void check(size_t number) {
    struct cadastre_stats stats;
    struct cadastre_arena_stats of_arena;
    const struct cadastre_memory *mapped = &stats.mapped;
    census_all(&stats, NULL);
    compare("live", number, mapped->live + mapped->rounding + mapped->caches + mapped->outgoing + mapped->retired,
            os_live());
    compare("retained", number, mapped->retained, os_retained());
    compare("mapped", number, mapped->total, os_mapped());
    compare("other", number, mapped->other, 0);
    for (unsigned i = 0; i < arenas_count(); i++) {
        struct arena_totals totals;
        uint64_t outside = 0;
        arena_total(arenas_at(i), &totals);
        census_arena(i, &of_arena);
        for (unsigned class = 0; class < CLASSES; class ++)
            outside += of_arena.classes[class].live + of_arena.classes[class].cached;
        compare("blocks outside of slabs", number, outside, totals.counts.refilled - totals.counts.flushed);
        compare("arena's zones", number, of_arena.mapped.total, totals.mapped);
    }
}

/* The debugging modes' own memory, and what they do to LARGE blocks. */
static void debugging(void) {
    struct cadastre_stats stats;
    bool on = history_boot(1000) && quarantine_boot(MIB) && ledger_put((struct ledger_entry){.address = 16});
    census_all(&stats, NULL);
    ok(on && stats.mapped.debug > 0 && stats.mapped.other == 0, "ledger, history and quarantine are counted");
    large_guard_edges();
    void *guarded = cadastre_malloc(100000);
    void *held = cadastre_malloc(200000);
    uint64_t guards = stats.mapped.guards;
    struct quarantined block = {held, cadastre_malloc_usable_size(held)};
    on = large_hold(held) && quarantine_put(block);
    census_all(&stats, NULL);
    ok(stats.mapped.guards == guards + 4 * os_page_size() && stats.mapped.other == 0,
       "guard pages of LARGE blocks too");
    ok(on && stats.mapped.quarantine >= 200000 && stats.large_blocks == 1, "one that is held back is not live");
    quarantine_take(&block);
    large_give_held(held);
    cadastre_free(guarded);
    census_all(&stats, NULL);
    ok(stats.mapped.guards == guards && stats.mapped.quarantine == 0 && stats.mapped.other == 0, "and both go");
}

int main(void) {
    cadastre_free(cadastre_malloc(1));
    for (size_t i = 0; i < STEPS; i++) {
        step();
        if (i % 300 == 0)
            check(i);
    }
    ok(wrong == 0, "what is counted is what the accounts say, all through %d operations", STEPS);
    for (size_t i = 0; i < SLOTS; i++)
        cadastre_free(slots[i]);
    check(STEPS);
    arenas_purge_all();
    check(STEPS);
    ok(wrong == 0, "and once all is freed, and purged");
    struct cadastre_stats stats;
    struct cadastre_memory resident;
    census_all(&stats, &resident);
    ok(stats.mapped.retained == 0 && stats.live_blocks == 0 && stats.cached_blocks > 0, "then only caches hold blocks");
    ok(resident.total < stats.mapped.total && resident.idle == 0, "and what is purged is not resident");
    debugging();
    return tap_done();
}
