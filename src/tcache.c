#include "tcache.h"
#include "account.h"
#include "large.h"
#include "message.h"
#include "metadata.h"
#include "os.h"
#include "spantree.h"
#include <string.h>

_Atomic size_t tcache_threads;

/* All zero: its magazines are empty, and full. In .bss, since as a constant it would be as long in the file. */
SPARSE static union {
    struct tcache head;
    char rows[OWNER(ARENAS_MAX, 0)];
} no_cache;

#define NO_CACHE (&no_cache.head)

__thread struct tcache *tcache_current = NO_CACHE;

/* -------------------------------------------------------------------------------------------------- reports */
static void report_twice(size_t doubles, void *block) {
    size_t count;
    bool wanted = false;
    for (; UNLIKELY(doubles > 0); doubles--) /* one line for all of them, and each is counted */
        wanted |= message_begin_misuse(&count);
    if (LIKELY(!wanted))
        return;
    const struct slab_line *line = directory_find((uintptr_t)block);
    char buffer[200];
    struct text text = {buffer, 0, sizeof buffer - 1, -1};
    text_add(&text, "free(");
    text_add_hex(&text, (uintptr_t)block);
    text_add(&text, "): double free, by two threads at once or in a signal handler: block of class ");
    text_add_decimal(&text, slab_block_size(line));
    text_add(&text, " bytes, arena ");
    text_add_decimal(&text, slab_arena(line));
    buffer[text.length] = '\0';
    message_end_misuse(buffer, count, NULL);
}

/* ---------------------------------------------------------------------------------------------- LARGE blocks */
/* The first of them go to all: `count`, and more until the rest come to `bytes` at the most. */
static void give_up(struct tcache *cache, unsigned count, size_t bytes) {
    unsigned given = 0;
    large_lock(); /* the child of a fork sees all of it, or nothing */
    for (; given < load_relaxed(&cache->retired_count) && (given < count || cache->retired_bytes > bytes); given++) {
        large_give_retired_locked(load_relaxed(&cache->retired[given]));
        cache->retired_bytes -= cache->retired_spans[given];
    }
    unsigned rest = load_relaxed(&cache->retired_count) - given;
    for (unsigned i = 0; i < rest; i++) {
        store_relaxed(&cache->retired[i], load_relaxed(&cache->retired[given + i]));
        cache->retired_spans[i] = cache->retired_spans[given + i];
    }
    store_relaxed(&cache->retired_count, rest);
    large_unlock();
}

/* For one more, of `span` bytes. */
static bool make_room(struct tcache *cache, size_t span) {
    if (load_relaxed(&cache->retired_count) == RETIRED_MAX)
        give_up(cache, RETIRED_FLUSH, SIZE_MAX);
    size_t bytes = cache->retired_bytes + span;
    if (bytes > cache->retired_claim) {
        if (account_claim(bytes - cache->retired_claim, arenas_zone_size()))
            cache->retired_claim = bytes;
        else if (span <= cache->retired_claim)
            give_up(cache, 0, cache->retired_claim - span);
        else
            return false;
    }
    return true;
}

bool tcache_keep_large_slowly(struct tcache *cache, void *block) {
    size_t span;
    if (!tcache_is_real(cache))
        return false;
    struct node *node = large_retire(block, arenas_zone_size(), &span);
    if (node == NULL)
        return false;
    if (make_room(cache, span)) {
        tcache_list_large(cache, load_relaxed(&cache->retired_count), node, span);
    } else {
        large_lock();
        large_give_retired_locked(node);
        large_unlock();
    }
    arenas_keep_contract();
    return true;
}

/* What is left of `count`, and of the claim. */
static void give_up_for_good(struct tcache *cache, unsigned count) {
    give_up(cache, count, SIZE_MAX);
    account_disclaim(cache->retired_claim - cache->retired_bytes);
    cache->retired_claim = cache->retired_bytes;
    arenas_keep_contract();
}

void tcache_give_up_large(struct tcache *cache) {
    give_up_for_good(cache, (load_relaxed(&cache->retired_count) + 1) / 2);
}

static void drain_large(struct tcache *cache) {
    if (cache->retired_claim > 0)
        give_up_for_good(cache, load_relaxed(&cache->retired_count));
}

/* ------------------------------------------------------------------------------------------------ magazines */
static size_t entries_of(const struct magazine *magazine) {
    return (size_t)(magazine->limit - magazine->base);
}

static size_t held_by(const struct magazine *magazine) {
    return (size_t)(load_relaxed(&magazine->top) - magazine->base);
}

/* The capacity that a thread's magazines may have together: an equal share, if the threads are many. Threads that grew
 * before these were so many keep what they have. */
static size_t allowance(void) {
    size_t threads = max_size(1, load_relaxed(&tcache_threads));
    return max_size(TCACHE_BYTES_MIN, min_size(TCACHE_BYTES_MAX, TCACHES_BYTES_MAX / threads));
}

/* Quadruples the magazine's capacity (by doubling, the arrays outgrown would add up to the last), within its bound and
 * the thread's. Capacities are powers of two, as the blocks of metadata are. */
static bool grow_magazine(struct tcache *cache, unsigned class) {
    struct magazine *magazine = tcache_own_magazine(cache, class);
    size_t old = entries_of(magazine);
    size_t entries = min_size(old == 0 ? MAGAZINE_ENTRIES_MIN : 4 * old, magazine->entries_max);
    size_t left = allowance() - min_size(allowance(), cache->bytes);
    if (old == 0 && entries * sizeclasses[class].size > left)
        entries = 1; /* every class in use gets that much */
    size_t cost = (entries - old) * sizeclasses[class].size;
    if (entries == old || (old > 0 && cost > left))
        return false;
    struct entry *base = metadata_take(entries * sizeof *base);
    if (base == NULL)
        return false;
    struct entry *old_base = magazine->base;
    arena_lock(cache->owner);
    size_t held = held_by(magazine);
    if (held > 0)
        memcpy(base, old_base, held * sizeof *base);
    magazine->base = base;
    magazine->limit = base + entries;
    store_release(&magazine->top, base + held);
    cache->bytes += cost;
    arena_unlock(cache->owner);
    if (old > 0)
        metadata_give(old_base, old * sizeof *base);
    return true;
}

/* Gives back the `count` entries that have been in the magazine longest. */
static void flush_magazine(struct tcache *cache, unsigned class, size_t count) {
    struct magazine *magazine = tcache_own_magazine(cache, class);
    void *twice = NULL;
    arena_lock(cache->owner);
    size_t rest = held_by(magazine) - count;
    size_t doubles = arena_flush_locked(cache->owner, magazine->base, count, &twice);
    memmove(magazine->base, magazine->base + count, rest * sizeof *magazine->base);
    store_release(&magazine->top, magazine->base + rest);
    arena_unlock(cache->owner);
    report_twice(doubles, twice);
    arenas_keep_contract();
}

/* An empty magazine's array goes back, and what it might have held. */
static void drop_array(struct tcache *cache, unsigned class) {
    struct magazine *magazine = tcache_own_magazine(cache, class);
    struct entry *base = magazine->base;
    size_t entries = entries_of(magazine);
    arena_lock(cache->owner);
    store_relaxed(&magazine->top, NULL);
    magazine->base = magazine->limit = NULL;
    cache->bytes -= entries * sizeclasses[class].size;
    arena_unlock(cache->owner);
    metadata_give(base, entries * sizeof *base);
}

/*
 * One cached block keeps a whole slab from becoming empty, and the magazine of a class that is no longer in use would
 * keep its blocks for ever. So while a thread is busy with other classes, each is looked at in turn; one that holds
 * what it held at the last visit is given up.
 */
static void sweep(struct tcache *cache, unsigned busy_class) {
    if (++cache->sweep_ticks % SWEEP_PERIOD != 0)
        return;
    unsigned class = cache->swept_class;
    cache->swept_class = (uint16_t)((class + 1) % CLASSES);
    size_t held = held_by(tcache_own_magazine(cache, class));
    if (class == busy_class || held == 0)
        return;
    if (held == cache->swept_held[class]) {
        flush_magazine(cache, class, held);
        drop_array(cache, class);
        held = 0;
    }
    cache->swept_held[class] = (uint16_t)held;
}

/* Each refill costs a few cache lines that other threads have written, however much it takes: a magazine that has grown
 * takes a quarter of what it can hold. But what each of many threads holds in advance adds up. */
static size_t refill_wanted(const struct magazine *magazine) {
    return load_relaxed(&tcache_threads) <= CACHES_FEW ? max_size(magazine->refill, entries_of(magazine) / 4)
                                                       : (magazine->refill + 1U) / 2;
}

/* Whether it is empty, once those of its blocks that are on top and live are out of it. */
static bool is_empty_of_free(struct magazine *magazine) {
    void *twice = NULL;
    size_t doubles = 0;
    for (; !tcache_is_empty(magazine); doubles++) {
        struct entry *entry = load_relaxed(&magazine->top) - 1;
        if (LIKELY(load_relaxed(entry->state) < STATE_LIVE))
            break;
        twice = entry->block;
        store_relaxed(&magazine->top, entry);
    }
    report_twice(doubles, twice);
    return tcache_is_empty(magazine);
}

bool tcache_refill(struct tcache *cache, unsigned class) {
    struct magazine *magazine = tcache_own_magazine(cache, class);
    if (!is_empty_of_free(magazine))
        return true;
    sweep(cache, class);
    if (entries_of(magazine) < refill_wanted(magazine))
        grow_magazine(cache, class);
    size_t want = min_size(refill_wanted(magazine), entries_of(magazine));
    if (want == 0)
        return false;
    for (;;) {
        arena_lock(cache->owner);
        size_t got = arena_refill_locked(cache->owner, class, magazine->base, want);
        store_release(&magazine->top, magazine->base + got);
        arena_unlock(cache->owner);
        if (cache->retired_claim > 0 && account_is_beyond_peak()) /* slabs grow, which cannot use these */
            drain_large(cache);
        arenas_keep_contract();
        if (LIKELY(!is_empty_of_free(magazine)))
            return true;
        if (got == 0 && !arena_grow(cache->owner, class, arenas_zone_size()))
            return false;
    }
}

/* ---------------------------------------------------------------------------------------------- giving back */
static void flush_outgoing(struct tcache *cache) {
    void *twice = NULL;
    size_t doubles = arenas_flush(load_relaxed(&cache->outgoing), &twice);
    store_relaxed(&cache->outgoing_left, OUTGOING_BYTES_MAX);
    report_twice(doubles, twice);
    arenas_keep_contract();
}

static COLD void give_direct(struct arena *arena, void *block, state_byte *state) {
    struct entry entry = {block, state};
    void *twice = NULL;
    store_relaxed(state, STATE_USED);
    arena_lock(arena);
    size_t doubles = arena_flush_locked(arena, &entry, 1, &twice);
    arena_unlock(arena);
    report_twice(doubles, twice);
    arenas_keep_contract();
}

void tcache_return(void *block) {
    const struct slab_line *line = directory_find((uintptr_t)block);
    state_byte *state = load_relaxed(slab_states(line)) + slab_index_at(line, (uintptr_t)block);
    give_direct(arenas_at(slab_arena(line)), block, state);
}

static void make_outgoing(struct tcache *cache) {
    struct batch *batch = metadata_take(sizeof *batch);
    if (batch == NULL)
        return;
    memset(batch, 0, offsetof(struct batch, bundles)); /* what metadata gives is not zero, if it is not new */
    store_release(&cache->outgoing, batch);
}

bool tcache_push_bundle(struct tcache *cache, const struct slab_line *line, void *block, state_byte *state) {
    struct batch *batch = load_relaxed(&cache->outgoing);
    ptrdiff_t left = tcache_outgoing_after(cache, slab_class(line));
    if (UNLIKELY(batch == NULL || load_relaxed(&batch->count) == OUTGOING_BUNDLES || left < 0))
        return false;
    if (!PLANTED_DELAY)
        store_relaxed(state, STATE_USED);
    batch_add_bundle(batch, line, block, state);
    store_relaxed(&cache->outgoing_left, left);
    return true;
}

/* The batch is missing, or full of bundles or bytes. */
static void give_outgoing(struct tcache *cache, const struct slab_line *line, void *block, state_byte *state) {
    if (load_relaxed(&cache->outgoing) != NULL)
        flush_outgoing(cache);
    else
        make_outgoing(cache);
    if (!tcache_push_bundle(cache, line, block, state)) /* no memory for the batch, or not even an empty one holds it */
        give_direct(arenas_at(slab_arena(line)), block, state);
}

/*
 * The magazine is full: it grows, or its coldest half goes back, and one more. Refills of a long one take less; so a
 * thread that swings by no more than the capacity comes to rest at or below it, whatever it had cached before, and does
 * not flush and refill for ever because of a few blocks too many.
 */
static void give_own(struct tcache *cache, unsigned class, void *block, state_byte *state) {
    struct magazine *magazine = tcache_own_magazine(cache, class);
    sweep(cache, class);
    if (!grow_magazine(cache, class)) {
        if (entries_of(magazine) == 0) { /* no memory even for its array */
            give_direct(cache->owner, block, state);
            return;
        }
        flush_magazine(cache, class, min_size(entries_of(magazine), (entries_of(magazine) + 1) / 2 + 1));
    }
    tcache_push(magazine, block, state);
}

void tcache_give(struct tcache *cache, void *block, state_byte *state) {
    const struct slab_line *line = directory_find((uintptr_t)block);
    unsigned owner = slab_arena(line);
    unsigned class = slab_class(line);
    if (!tcache_is_real(cache)) {
        give_direct(arenas_at(owner), block, state);
    } else if (owner != cache->owner->index) {
        if (!tcache_push_outgoing(cache, class, state) && !tcache_push_bundle(cache, line, block, state))
            give_outgoing(cache, line, block, state);
    } else if (!tcache_push(tcache_own_magazine(cache, class), block, state)) {
        give_own(cache, class, block, state);
    }
}

void *tcache_take_direct(struct arena *arena, bool may_grow, unsigned class, size_t size, uint8_t *state) {
    struct entry entry;
    for (;;) {
        arena_lock(arena);
        size_t got = arena_refill_locked(arena, class, &entry, 1);
        arena_unlock(arena);
        arenas_keep_contract(); /* a slab may have been carved */
        *state = got > 0 ? load_relaxed(entry.state) : STATE_USED;
        if (LIKELY(got > 0 && *state < STATE_LIVE))
            break;
        if (got > 0) /* the next then */
            report_twice(1, entry.block);
        else if (!may_grow || !arena_grow(arena, class, arenas_zone_size()))
            return NULL;
    }
    slab_set_size(directory_find((uintptr_t)entry.block), entry.state, size);
    return entry.block;
}

/* -------------------------------------------------------------------------------------------- the whole cache */
void tcache_set_current(struct tcache *cache) {
    tcache_current = cache == NULL ? NO_CACHE : cache;
}

static size_t bytes_of(struct tcache *cache) {
    size_t bytes = 0;
    for (unsigned class = 0; class < CLASSES; class ++)
        bytes += held_by(tcache_own_magazine(cache, class)) * sizeclasses[class].size;
    return bytes;
}

void tcache_drain(struct tcache *cache) {
    drain_large(cache);
    if (load_relaxed(&cache->outgoing) != NULL)
        flush_outgoing(cache);
    for (unsigned class = 0; class < CLASSES; class ++) {
        size_t held = held_by(tcache_own_magazine(cache, class));
        if (held > 0)
            flush_magazine(cache, class, held);
    }
}

void tcache_trim(struct tcache *cache) {
    if (load_relaxed(&cache->outgoing) != NULL)
        flush_outgoing(cache);
    drain_large(cache);
    if (bytes_of(cache) > PARKED_BYTES_MAX)
        tcache_drain(cache);
}

size_t tcache_measure_retired(struct tcache *cache) {
    cache->retired_bytes = 0;
    for (unsigned i = load_relaxed(&cache->retired_count); i-- > 0;) {
        cache->retired_spans[i] = load_relaxed(&cache->retired[i])->span;
        cache->retired_bytes += cache->retired_spans[i];
    }
    cache->retired_claim = cache->retired_bytes;
    return cache->retired_claim;
}
