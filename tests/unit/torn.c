/*
 * What changes without a lock while others look at it is seen as it stood at one instant: the size of a LARGE block and
 * the kind of its span, the slack of a block and its state. A signal handler stands in for the thread that changes
 * them, as that can come between any two instructions of the one that looks.
 */
#include "arenas.h"
#include "directory.h"
#include "large.h"
#include "tap.h"

#include <signal.h>
#include <sys/time.h>
#include <time.h>

enum { CHANGES = 2000, SECONDS_MAX = 60 };
enum { OLD = 197000, NEW = 212000, CLASS_SIZE = 4096, OLD_SIZE = 3000, NEW_SIZE = 2900 };

static void (*change)(void);
static volatile sig_atomic_t changed; /* since the round began */

static void on_timer(int signal) {
    (void)signal;
    if (!changed)
        change();
    changed = 1;
}

/* Prepares and looks, over and over, until CHANGES of the looks had a change in their midst; gives those that saw what
 * never was. */
static size_t count_torn(void (*prepare)(void), void (*changes)(void), bool (*is_torn)(void)) {
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    struct itimerval often = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}}, never = {0};
    size_t torn = 0;
    time_t end = time(NULL) + SECONDS_MAX;
    change = changes;
    changed = 1;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (size_t changes_seen = 0; changes_seen < CHANGES && time(NULL) < end; changes_seen += (size_t)changed) {
        changed = 1;
        prepare();
        atomic_signal_fence(memory_order_seq_cst);
        changed = 0;
        for (int i = 0; i < 1000 && !changed; i++)
            torn += is_torn();
    }
    setitimer(ITIMER_REAL, &never, NULL);
    return torn;
}

/* -------------------------------------------------------------------------------------------------- LARGE spans */
static void *large;
static struct node *node;

/* A block of the old size was freed; whoever looks from now on does not see it. */
static void retire_old(void) {
    size_t span;
    if (load_relaxed(&node->kind) != LARGE_LIVE)
        large_revive(node, OLD);
    large_set_size(large, OLD);
    large_retire(large, SIZE_MAX, &span);
}

static void revive_new(void) {
    large_revive(node, NEW);
}

static bool lists_old(void) {
    struct large_view view;
    return large_list((uintptr_t)large, &view, 1) == 1 && view.kind == LARGE_LIVE && view.size != NEW;
}

static bool finds_old(void) {
    struct large_view view;
    return large_find((uintptr_t)large, &view) && view.kind == LARGE_LIVE && view.size != NEW;
}

/* -------------------------------------------------------------------------------------------------------- slabs */
static struct entry entry;
static struct zone_view zone;
static struct slab_line *line;

static void take_old(void) {
    slab_set_size(line, entry.state, OLD_SIZE);
}

/* The block is freed, and on its way to be another's: its state is yet to be written. */
static void half_take_new(void) {
    store_relaxed(entry.state, STATE_USED);
    store_release(slab_small_slack(entry.state), CLASS_SIZE - NEW_SIZE);
}

static bool copies_new(void) {
    static struct slab_room room;
    struct slab_view view = slab_view_in(&room);
    unsigned unit = (unsigned)(((uintptr_t)entry.block - zone.start) / UNIT_SIZE);
    size_t index = slab_index_at(line, (uintptr_t)entry.block);
    return arena_view_slab(arenas_at(0), &zone, unit, 0, &view) && load_relaxed(&view.states[index]) == STATE_WIDE &&
           load_relaxed(&view.slacks[index]) != CLASS_SIZE - OLD_SIZE;
}

static bool finds_new(void) {
    size_t size;
    return arena_find_live(arenas_at(0), (uintptr_t)entry.block, &size) && size != OLD_SIZE;
}

static bool take_a_block(void) {
    struct arena *arena = arenas_at(0);
    if (!arena_grow(arena, sizeclass_of(CLASS_SIZE), arenas_zone_size()))
        return false;
    arena_lock(arena);
    size_t got = arena_refill_locked(arena, sizeclass_of(CLASS_SIZE), &entry, 1);
    arena_unlock(arena);
    zone = arena_next_zone(arena, zone_base((uintptr_t)entry.block));
    line = directory_find((uintptr_t)entry.block);
    return got == 1;
}

int main(void) {
    bool zeroed;
    os_boot();
    arenas_boot(1);
    large = large_take(NEW, NEW, 1, &zeroed);
    node = directory_find_large((uintptr_t)large);
    if (!ok(large != NULL && node != NULL && take_a_block(), "a LARGE block, and one of a slab"))
        return tap_done();
    ok(count_torn(retire_old, revive_new, lists_old) == 0, "a list of LARGE spans has no size of a block before");
    ok(count_torn(retire_old, revive_new, finds_old) == 0, "nor has what is found by an address");
    ok(count_torn(take_old, half_take_new, copies_new) == 0, "a slab's copy has no slack of a block to come");
    ok(count_torn(take_old, half_take_new, finds_new) == 0, "nor has a block that is looked for");
    return tap_done();
}
