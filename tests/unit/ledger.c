/* The ledger against a model: random operations on addresses that collide, through its growth; and many threads. */
#include "ledger.h"
#include "tap.h"
#include <pthread.h>

enum { ADDRESSES = 20000, STEPS = 400000, THREADS = 8 };

static struct ledger_entry model[ADDRESSES]; /* address 0: not there */

static uint64_t seed = 7;
static size_t next_random(size_t below) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (size_t)(seed >> 33) % below;
}

/* Of blocks that lie close, and of some that lie units apart, as do those whose places collide. */
static uintptr_t address_of(size_t i) {
    return UINT64_C(0x7f0000000000) + (i % 2 ? i * 16 : i << 16);
}

static bool same(const struct ledger_entry *a, const struct ledger_entry *b) {
    return a->address == b->address && a->size == b->size && a->capacity == b->capacity && a->stack == b->stack &&
           a->thread == b->thread && a->live == b->live && a->filled == b->filled && a->arena == b->arena;
}

static bool is_live(size_t i) {
    return model[i].address != 0 && model[i].live;
}

static void put(size_t i) {
    model[i] = (struct ledger_entry){.address = address_of(i),
                                     .size = next_random(1000),
                                     .capacity = 1000 + next_random(1000),
                                     .stack = (uint32_t)next_random(1u << 20),
                                     .thread = (uint32_t)next_random(1u << 20),
                                     .arena = (uint16_t)next_random(64),
                                     .live = next_random(2) == 0};
    model[i].filled = !model[i].live && next_random(2) == 0;
}

/* How many of the visited are not as the model has them; `seen` counts them. */
struct visit {
    size_t seen;
    size_t wrong;
};

static void compare(void *argument, struct ledger_entry *entry) {
    struct visit *visit = argument;
    uintptr_t offset = entry->address - UINT64_C(0x7f0000000000);
    size_t odd = offset / 16;
    size_t i = offset % (1 << 16) == 0 && (offset >> 16) % 2 == 0 && offset >> 16 < ADDRESSES ? offset >> 16 : odd;
    visit->seen++;
    visit->wrong += i >= ADDRESSES || !same(entry, &model[i]) || !entry->live;
}

static bool all_as_in_model(void) {
    struct ledger_entry entry;
    struct visit visit = {0, 0};
    size_t live = 0;
    size_t wrong = 0;
    for (size_t i = 0; i < ADDRESSES; i++) {
        bool found = ledger_find(address_of(i), &entry);
        wrong += found != (model[i].address != 0) || (found && !same(&entry, &model[i]));
        live += is_live(i);
    }
    ledger_visit_live(compare, &visit);
    return wrong == 0 && visit.wrong == 0 && visit.seen == live;
}

static size_t take_and_compare(size_t i) {
    struct ledger_entry entry;
    bool taken = ledger_take_live(address_of(i), &entry);
    size_t wrong = taken != is_live(i) || (taken && !same(&entry, &model[i]));
    if (is_live(i))
        model[i].address = 0;
    return wrong;
}

static void against_a_model(void) {
    struct ledger_entry entry;
    size_t wrong = 0;
    ok(!ledger_find(16, &entry) && !ledger_take_live(16, &entry), "there is nothing at first");
    for (size_t step = 0; step < STEPS; step++) {
        size_t range = step < STEPS / 4 ? 3000 : ADDRESSES;
        size_t i = next_random(range);
        switch (next_random(step / 50000 % 2 ? 8 : 4)) { /* it fills, then empties */
        case 0:
        case 1:
            put(i);
            wrong += !ledger_put(model[i]);
            break;
        default:
            wrong += take_and_compare(i);
            break;
        }
        if (step % (STEPS / 8) == 0)
            wrong += !all_as_in_model();
    }
    ok(wrong == 0, "%d random operations are as the model says (%zu wrong)", STEPS, wrong);
    ok(all_as_in_model(), "and so is all at the end");
    for (size_t i = 0; i < ADDRESSES; i++) {
        put(i);
        model[i].live = true; /* of a block that was freed the entry stays until the address is handed out again */
        wrong += !ledger_put(model[i]) + take_and_compare(i);
    }
    ok(wrong == 0 && all_as_in_model(), "nothing is left when all is taken out");
}

/* Each live entry is taken out by one thread only, while others put theirs and the table grows. */
static atomic_size_t taken;
static atomic_size_t strange;

static void *race(void *argument) {
    uintptr_t own = (uintptr_t)argument << 32;
    struct ledger_entry entry;
    for (size_t i = 1; i <= 20000; i++) {
        bool put = ledger_put((struct ledger_entry){.address = own + 16 * i, .size = i, .live = true});
        strange += !put || !ledger_find(own + 16 * i, &entry) || entry.size != i;
        if (ledger_take_live(16 * i, &entry)) {
            taken++;
            strange += entry.size != i || entry.address != 16 * i;
        }
    }
    for (size_t i = 1; i <= 20000; i++)
        strange += !ledger_take_live(own + 16 * i, &entry) || entry.size != i;
    return NULL;
}

static void from_threads(void) {
    pthread_t threads[THREADS];
    for (size_t i = 1; i <= 20000; i++)
        ledger_put((struct ledger_entry){.address = 16 * i, .size = i, .live = true});
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, race, (void *)(i + 1));
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ok(taken == 20000, "%zu of 20000 entries were taken out, by %d threads that raced", taken, THREADS);
    ok(strange == 0, "and none was lost or mixed up (%zu)", strange);
}

int main(void) {
    against_a_model();
    from_threads();
    return tap_done();
}
