#include "ledger.h"
#include "lock.h"
#include "os.h"

#define CAPACITY_MIN ((size_t)4096) /* entries */

/* Linear probing; at most two thirds full. */
static struct table {
    struct ledger_entry *entries; /* address 0: free */
    size_t capacity;              /* a power of two, or 0 */
    size_t used;
} table; /* under lock */
static struct lock lock = LOCK_INIT(LOCK_LEDGER);

static size_t home_of(const struct table *t, uintptr_t address) {
    return (address / 16 * UINT64_C(0x9E3779B97F4A7C15) >> 20) & (t->capacity - 1);
}

/* Where the address is, or would be put. */
static size_t find_slot(const struct table *t, uintptr_t address) {
    size_t slot = home_of(t, address);
    while (t->entries[slot].address != 0 && t->entries[slot].address != address)
        slot = (slot + 1) & (t->capacity - 1);
    return slot;
}

static void insert(struct table *t, struct ledger_entry entry) {
    size_t slot = find_slot(t, entry.address);
    t->used += t->entries[slot].address == 0;
    t->entries[slot] = entry;
}

/* Closes the gap: what stands behind it, and could stand in it, moves up. */
static void remove_slot(struct table *t, size_t gap) {
    size_t mask = t->capacity - 1;
    for (size_t slot = (gap + 1) & mask; t->entries[slot].address != 0; slot = (slot + 1) & mask) {
        size_t home = home_of(t, t->entries[slot].address);
        if (((slot - home) & mask) >= ((slot - gap) & mask)) {
            t->entries[gap] = t->entries[slot];
            gap = slot;
        }
    }
    t->entries[gap].address = 0;
    t->used--;
}

static bool is_full(const struct table *t) {
    return t->used >= t->capacity / 3 * 2;
}

static size_t bytes_of(const struct table *t) {
    return round_up(t->capacity * sizeof *t->entries, os_page_size());
}

/* Takes the lock, with room for one more entry. false: no memory, and no lock held. */
static bool lock_with_room(void) {
    lock_acquire(&lock);
    while (UNLIKELY(is_full(&table))) {
        struct table grown = {.capacity = table.capacity == 0 ? CAPACITY_MIN : 2 * table.capacity};
        lock_release(&lock);
        grown.entries = os_map_own(bytes_of(&grown));
        if (grown.entries == NULL)
            return false;
        lock_acquire(&lock);
        struct table old = table;
        if (old.capacity < grown.capacity) { /* another thread may have been faster */
            for (size_t i = 0; i < old.capacity; i++)
                if (old.entries[i].address != 0)
                    insert(&grown, old.entries[i]);
            table = grown;
            grown = old;
        }
        if (grown.capacity > 0) {
            lock_release(&lock);
            os_unmap_own(grown.entries, bytes_of(&grown));
            lock_acquire(&lock);
        }
    }
    return true;
}

bool ledger_put(struct ledger_entry entry) {
    if (!lock_with_room())
        return false;
    insert(&table, entry);
    lock_release(&lock);
    return true;
}

/* Under lock; NULL: there is none. */
static struct ledger_entry *look_up(uintptr_t address) {
    struct ledger_entry *entry = table.capacity == 0 ? NULL : &table.entries[find_slot(&table, address)];
    return entry != NULL && entry->address == address ? entry : NULL;
}

bool ledger_find(uintptr_t address, struct ledger_entry *entry) {
    lock_acquire(&lock);
    const struct ledger_entry *found = look_up(address);
    if (found != NULL)
        *entry = *found;
    lock_release(&lock);
    return found != NULL;
}

bool ledger_take_live(uintptr_t address, struct ledger_entry *entry) {
    lock_acquire(&lock);
    struct ledger_entry *found = look_up(address);
    bool live = found != NULL && found->live;
    if (live) {
        *entry = *found;
        remove_slot(&table, (size_t)(found - table.entries));
    }
    lock_release(&lock);
    return live;
}

void ledger_visit_live(void (*visit)(void *argument, struct ledger_entry *entry), void *argument) {
    lock_acquire(&lock);
    for (size_t i = 0; i < table.capacity; i++)
        if (table.entries[i].address != 0 && table.entries[i].live)
            visit(argument, &table.entries[i]);
    lock_release(&lock);
}

const void *ledger_memory(size_t *size) {
    lock_acquire(&lock);
    const void *memory = table.entries;
    *size = bytes_of(&table);
    lock_release(&lock);
    return memory;
}

void ledger_lock(void) {
    lock_acquire(&lock);
}

void ledger_unlock(void) {
    lock_release(&lock);
}

void ledger_reset_lock(void) {
    lock_reset(&lock);
}
