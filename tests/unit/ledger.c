/*
 * The ledger against a model: random operations on addresses that collide, through its growth, and through sweeps of
 * what is gone, with which it shrinks; many threads; and a fork in the midst of a sweep.
 */
#include "ledger.h"
#include "os.h"
#include "tap.h"
#include <pthread.h>
#include <sys/wait.h>

enum { ADDRESSES = 150000, STEPS = 1000000, THREADS = 8 }; /* with pages of 64 KiB, too, the ledger grows for them */

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

/* ADDRESSES or more: it is none of those. */
static size_t index_of(uintptr_t address) {
    uintptr_t offset = address - UINT64_C(0x7f0000000000);
    size_t even = offset >> 16;
    return offset % (1 << 16) == 0 && even % 2 == 0 && even < ADDRESSES ? even : offset / 16;
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
    size_t i = index_of(entry->address);
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

/* ------------------------------------------------------------------------------------------------ sweeping */
static atomic_size_t strange; /* what went wrong */
static bool gone[ADDRESSES];
static bool renews;     /* some of what is gone is another block by the time that the sweep has asked */
static size_t misasked; /* about a live block, or with another arena than the entry's */
static size_t renewed;

static bool is_there(uintptr_t address, unsigned arena) {
    size_t i = index_of(address);
    if (i >= ADDRESSES)
        return false;
    misasked += model[i].live || arena != model[i].arena;
    if (!renews || !gone[i] || next_random(4) != 0)
        return !gone[i];
    put(i);
    renewed += ledger_put(model[i]);
    gone[i] = false;
    return false;
}

static bool nothing_is_there(uintptr_t address, unsigned arena) {
    (void)address, (void)arena;
    return false;
}

static void put_and_sweep(struct ledger_entry entry, bool (*there)(uintptr_t address, unsigned arena)) {
    strange += !ledger_put(entry);
    if (ledger_is_due())
        ledger_sweep(there);
}

static size_t ledger_bytes(void) {
    size_t size, sum = 0;
    for (unsigned n = 0; n < LEDGER_PIECES; n++)
        sum += ledger_memory(n, &size) != NULL ? size : 0;
    return sum;
}

/* Addresses that the model does not have, of which none lasts. */
static size_t put_strangers(size_t count) {
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        put_and_sweep((struct ledger_entry){.address = 0x100000000 + 16 * i}, nothing_is_there);
        most = i % 1000 == 0 && ledger_bytes() > most ? ledger_bytes() : most;
    }
    return most;
}

/* Live entries stay, and those that are there, and what is put meanwhile. Of the others none does, once what is mapped
 * has fallen; and the memory follows. */
static void of_what_is_gone(void) {
    size_t ballast_size = (size_t)64 << 20;
    void *ballast = os_map(ballast_size);
    memset(gone, 0, sizeof gone);
    for (size_t i = 0; i < ADDRESSES; i++) {
        put(i);
        put_and_sweep(model[i], is_there);
    }
    ok(ballast != NULL && all_as_in_model(), "nothing is dropped while all is there");
    size_t full = ledger_bytes(), dropped = 0;
    os_unmap(ballast, ballast_size);
    ok(ledger_is_due(), "when much is unmapped, the ledger is due");
    for (size_t i = 0; i < ADDRESSES; i++)
        gone[i] = next_random(10) != 0;
    while (ledger_is_due())
        ledger_sweep(is_there);
    for (size_t i = 0; i < ADDRESSES; i++)
        if (gone[i] && !model[i].live) {
            model[i].address = 0;
            dropped++;
        }
    ok(all_as_in_model() && misasked == 0, "what is gone is dropped, %zu entries, and no other", dropped);
    ok(!renews || renewed > 0, "%zu were put anew meanwhile, and stay", renewed);
    ok(dropped > ADDRESSES / 4 && ledger_bytes() < full, "%zu kB are left of %zu", ledger_bytes() >> 10, full >> 10);
    size_t wrong = 0;
    for (size_t i = 0; i < ADDRESSES; i++)
        wrong += take_and_compare(i);
    memset(model, 0, sizeof model);
    memset(gone, true, sizeof gone);
    put_strangers(4 * ADDRESSES); /* so that no part has entries of these any more */
    ok(wrong == 0 && all_as_in_model(), "and then all the rest");
}

static void is_bounded(void) {
    size_t most = put_strangers(2000000);
    ok(most <= 4 * LEDGER_PARTS * os_page_size(), "2,000,000 addresses, each gone at once: %zu kB at the most",
       most >> 10);
}

/* The child is of a thread that sweeps, and leaves that undone. */
static pid_t child;

static bool fork_once(uintptr_t address, unsigned arena) {
    (void)address, (void)arena;
    if (child == 0 && (child = fork()) == 0) {
        alarm(60);
        size_t most = put_strangers(200000);
        _exit(most <= 4 * LEDGER_PARTS * os_page_size() ? 0 : 1);
    }
    return false;
}

static void in_a_child(void) {
    int status = -1;
    for (size_t i = 0; child == 0; i++)
        put_and_sweep((struct ledger_entry){.address = 0x200000000 + 16 * i}, fork_once);
    waitpid(child, &status, 0);
    ok(status == 0, "a child of fork, in the midst of a sweep, sweeps its own (status %#x)", (unsigned)status);
}

/* ------------------------------------------------------------------------------------------------- threads */
/* Each live entry is taken out by one thread only, while others put theirs, and those of freed blocks, and the table
 * grows and is swept. */
static atomic_size_t taken;

static void *race(void *argument) {
    uintptr_t own = (uintptr_t)argument << 32;
    struct ledger_entry entry;
    for (size_t i = 1; i <= 20000; i++) {
        put_and_sweep((struct ledger_entry){.address = own + 16 * i, .size = i, .live = true}, nothing_is_there);
        put_and_sweep((struct ledger_entry){.address = own + ((uintptr_t)1 << 31) + 16 * i}, nothing_is_there);
        strange += !ledger_find(own + 16 * i, &entry) || entry.size != i;
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
    of_what_is_gone();
    renews = true;
    of_what_is_gone();
    is_bounded();
    in_a_child();
    from_threads();
    return tap_done();
}
