#include "history.h"
#include "os.h"

#define WRITING UINT64_MAX

/* All atomics: a reader may look while a writer writes. `number` is WRITING while the rest is not to be believed. */
struct slot {
    _Atomic uint64_t number;
    _Atomic uintptr_t address;
    _Atomic size_t size;
    _Atomic uint64_t rest; /* thread, arena, operation */
};

static struct slot *ring; /* constant after boot, as the next */
static size_t ring_size;
static _Atomic uint64_t newest;

static size_t mapped_size(size_t count) {
    return round_up(count * sizeof *ring, os_page_size());
}

const void *history_memory(size_t *size) {
    *size = mapped_size(ring_size);
    return ring;
}

bool history_boot(size_t count) {
    ring = os_map_own(mapped_size(count));
    ring_size = ring == NULL ? 0 : count;
    return ring != NULL;
}

size_t history_capacity(void) {
    return ring_size;
}

/* The slot is the writer's until it says its number. false: a newer event is there, or one is being written, which may
 * be by a thread that a fork has left behind. */
static bool claim(struct slot *slot, uint64_t number) {
    uint64_t before = load_relaxed(&slot->number);
    do {
        if (before > number)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&slot->number, &before, WRITING, memory_order_acq_rel,
                                                    memory_order_relaxed));
    return true;
}

void history_add(enum history_operation operation, uintptr_t address, size_t size, uint16_t arena, uint32_t thread) {
    if (ring_size == 0)
        return;
    uint64_t number = add_relaxed(&newest, 1) + 1;
    struct slot *slot = &ring[number % ring_size];
    if (!claim(slot, number))
        return;
    store_release(&slot->address, address);
    store_release(&slot->size, size);
    store_release(&slot->rest, (uint64_t)thread << 32 | (uint64_t)arena << 8 | (uint64_t)operation);
    store_release(&slot->number, number);
}

uint64_t history_newest(void) {
    return load_acquire(&newest);
}

/* The number is the same before and after: then what was read in between belongs together. */
bool history_read(uint64_t number, struct history_event *event) {
    struct slot *slot = ring_size == 0 ? NULL : &ring[number % ring_size];
    if (slot == NULL || load_acquire(&slot->number) != number)
        return false;
    event->number = number;
    event->address = load_acquire(&slot->address);
    event->size = load_acquire(&slot->size);
    uint64_t rest = load_acquire(&slot->rest);
    event->thread = (uint32_t)(rest >> 32);
    event->arena = (uint16_t)(rest >> 8);
    event->operation = (uint8_t)rest;
    return load_relaxed(&slot->number) == number;
}
