#include "ledger.h"
#include "lock.h"
#include "os.h"
#include <string.h>

#define SWEEP_MIN     ((size_t)64) /* entries of a part that are no reason to sweep it */
#define SWEEP_ENTRIES 16           /* that are asked about at once */
#define SWEEP_SLOTS   512          /* that are looked at under one lock */

/* A part of the ledger, by hash, so that none takes long to grow: a table with linear probing, at most two thirds full.
 * All under lock. */
static struct table {
    struct ledger_entry *entries; /* address 0: free */
    size_t bytes;                 /* a power of two of pages, or 0 */
    size_t used;
    size_t sweep_at; /* it is due when it has so many entries */
} parts[LEDGER_PARTS];
static char *homes; /* in one mapping a page for each part, where it stands while that is enough; NULL: not yet */
static struct lock lock = LOCK_INIT(LOCK_LEDGER);
static bool is_sweeping;             /* some thread: one at a time, so that no doubt is another's; under lock */
static _Atomic uint64_t due;         /* a bit for each part; written under lock, as the next two */
static _Atomic size_t bytes_mapped;  /* for all parts */
static _Atomic size_t others_mapped; /* beside that, the most at any sweep since all parts were due */

_Static_assert(LEDGER_PARTS == 64, "due has a bit for each, and six bits of the hash name one");

static size_t capacity_of(size_t size) {
    return size / sizeof(struct ledger_entry);
}

static uint64_t hash(uintptr_t address) {
    return address / 16 * UINT64_C(0x9E3779B97F4A7C15);
}

static struct table *part_of(uintptr_t address) {
    return &parts[hash(address) >> 58];
}

static size_t home_of(const struct table *t, uintptr_t address) {
    return (size_t)((hash(address) >> 26 & UINT32_MAX) * capacity_of(t->bytes) >> 32);
}

static size_t next_slot(const struct table *t, size_t slot) {
    return slot + 1 == capacity_of(t->bytes) ? 0 : slot + 1;
}

static size_t slots_from_to(const struct table *t, size_t from, size_t to) {
    return to >= from ? to - from : to + capacity_of(t->bytes) - from;
}

/* Where the address is, or would be put. */
static size_t find_slot(const struct table *t, uintptr_t address) {
    size_t slot = home_of(t, address);
    while (t->entries[slot].address != 0 && t->entries[slot].address != address)
        slot = next_slot(t, slot);
    return slot;
}

static void insert(struct table *t, struct ledger_entry entry) {
    size_t slot = find_slot(t, entry.address);
    t->used += t->entries[slot].address == 0;
    t->entries[slot] = entry;
}

/* Closes the gap: what stands behind it, and could stand in it, moves up. */
static void remove_slot(struct table *t, size_t gap) {
    for (size_t slot = next_slot(t, gap); t->entries[slot].address != 0; slot = next_slot(t, slot)) {
        size_t home = home_of(t, t->entries[slot].address);
        if (slots_from_to(t, home, slot) >= slots_from_to(t, gap, slot)) {
            t->entries[gap] = t->entries[slot];
            gap = slot;
        }
    }
    t->entries[gap].address = 0;
    t->used--;
}

/* Under lock; NULL: there is none. */
static struct ledger_entry *look_up(uintptr_t address) {
    struct table *t = part_of(address);
    struct ledger_entry *entry = t->bytes == 0 ? NULL : &t->entries[find_slot(t, address)];
    return entry != NULL && entry->address == address ? entry : NULL;
}

/* ---------------------------------------------------------------------------------------------- its memory */
static bool is_full(const struct table *t) {
    return t->used >= capacity_of(t->bytes) / 3 * 2;
}

/* Whether it may shrink to that: then it can grow a while before it must be made larger again. */
static bool is_ample(const struct table *t, size_t size) {
    return t->used <= capacity_of(size) / 2;
}

static size_t homes_bytes(void) {
    return LEDGER_PARTS * os_page_size();
}

/* Here and below the lock is held before and after, but not meanwhile: another thread may be faster. false: there is no
 * memory. */
static bool map_homes(void) {
    lock_release(&lock);
    char *mine = os_map_own(homes_bytes());
    lock_acquire(&lock);
    if (homes == NULL && mine != NULL) {
        homes = mine;
        store_relaxed(&bytes_mapped, homes_bytes() + os_own_guards());
        for (size_t i = 0; i < LEDGER_PARTS; i++)
            parts[i] = (struct table){(struct ledger_entry *)(homes + i * os_page_size()), os_page_size(), 0, 0};
        return true;
    }
    lock_release(&lock);
    if (mine != NULL)
        os_unmap_own(mine, homes_bytes());
    lock_acquire(&lock);
    return homes != NULL;
}

static bool is_home(const struct table *t) {
    return t->bytes == os_page_size();
}

/* A table of that size for the same part; no entries: there is no memory. */
static struct table map_table(const struct table *t, size_t size) {
    if (size == os_page_size())
        return (struct table){(struct ledger_entry *)(homes + (size_t)(t - parts) * size), size, 0, 0};
    lock_release(&lock);
    struct table other = {os_map_own(size), size, 0, 0};
    if (other.entries != NULL)
        memset(other.entries, 0, size); /* as it is: but a page that is read first faults twice */
    lock_acquire(&lock);
    return other;
}

static void unmap_table(struct table *t) {
    if (is_home(t)) {
        memset(t->entries, 0, t->bytes);
        return;
    }
    lock_release(&lock);
    os_unmap_own(t->entries, t->bytes);
    lock_acquire(&lock);
}

static size_t mapped_for(const struct table *t) {
    return is_home(t) ? 0 : t->bytes + os_own_guards();
}

/* Moves all entries to a table of `size` bytes. */
static bool change_size(struct table *t, size_t size) {
    struct table other = map_table(t, size);
    if (other.entries == NULL)
        return false;
    if (size > t->bytes ? is_full(t) : size < t->bytes && is_ample(t, size)) {
        for (size_t i = 0; i < capacity_of(t->bytes); i++)
            if (t->entries[i].address != 0)
                insert(&other, t->entries[i]);
        store_relaxed(&bytes_mapped, load_relaxed(&bytes_mapped) + mapped_for(&other) - mapped_for(t));
        struct table old = *t;
        other.sweep_at = old.sweep_at;
        *t = other;
        other = old;
    }
    unmap_table(&other);
    return true;
}

/* false: there is no memory for one more entry. */
static bool make_room(struct table *t) {
    return t->bytes == 0 ? map_homes() : change_size(t, 2 * t->bytes);
}

/* What is mapped now, beside the ledger. */
static size_t count_others(void) {
    size_t mapped = os_mapped(), own = load_relaxed(&bytes_mapped);
    return mapped - min_size(own, mapped);
}

/* Whether so much is gone that the ledger may be too large for the rest. */
static bool has_fallen(void) {
    size_t own = load_relaxed(&bytes_mapped);
    return own > homes_bytes() + os_own_guards() && count_others() + own / 8 < load_relaxed(&others_mapped);
}

/* ------------------------------------------------------------------------------------------------- entries */
static void note_due(const struct table *t) {
    store_relaxed(&due, load_relaxed(&due) | UINT64_C(1) << (t - parts));
}

bool ledger_put(struct ledger_entry entry) {
    struct table *t = part_of(entry.address);
    lock_acquire(&lock);
    while (UNLIKELY(is_full(t)) && look_up(entry.address) == NULL) {
        if (!make_room(t)) {
            lock_release(&lock);
            return false;
        }
    }
    insert(t, entry);
    if (UNLIKELY(t->used >= max_size(t->sweep_at, SWEEP_MIN)))
        note_due(t);
    lock_release(&lock);
    return true;
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
        struct table *t = part_of(address);
        remove_slot(t, (size_t)(found - t->entries));
    }
    lock_release(&lock);
    return live;
}

bool ledger_end_life(struct ledger_entry *given, struct ledger_entry *live) {
    lock_acquire(&lock);
    struct ledger_entry *found = look_up(given->address);
    bool was_live = found != NULL && found->live;
    if (was_live) {
        *live = *found;
        given->size = live->size;
        given->capacity = live->capacity;
        *found = *given;
    }
    lock_release(&lock);
    return was_live;
}

void ledger_visit_live(void (*visit)(void *argument, struct ledger_entry *entry), void *argument) {
    lock_acquire(&lock);
    for (const struct table *t = parts; t < parts + LEDGER_PARTS; t++)
        for (size_t i = 0; i < capacity_of(t->bytes); i++)
            if (t->entries[i].address != 0 && t->entries[i].live)
                visit(argument, &t->entries[i]);
    lock_release(&lock);
}

/* ------------------------------------------------------------------------------------------------ sweeping */
struct doubts {
    size_t count;
    uintptr_t addresses[SWEEP_ENTRIES];
    uint16_t arenas[SWEEP_ENTRIES];
};

bool ledger_is_due(void) {
    return UNLIKELY(load_relaxed(&due) != 0 || has_fallen());
}

/* A part that is due, and is the caller's to sweep; NULL: there is none. */
static struct table *begin_sweep(void) {
    size_t others = count_others();
    if (is_sweeping)
        return NULL;
    if (has_fallen()) {
        store_relaxed(&others_mapped, others);
        for (const struct table *t = parts; t < parts + LEDGER_PARTS; t++)
            if (!is_home(t)) /* less it will not have */
                note_due(t);
    }
    uint64_t parts_due = load_relaxed(&due);
    if (parts_due == 0)
        return NULL;
    is_sweeping = true;
    store_relaxed(&others_mapped, max_size(load_relaxed(&others_mapped), others));
    store_relaxed(&due, parts_due & (parts_due - 1));
    return &parts[__builtin_ctzll(parts_due)];
}

/* The entries of freed blocks from `slot` on, a few; gives the slot behind them. */
static size_t doubt(struct table *t, size_t slot, struct doubts *doubts) {
    size_t end = min_size(slot + SWEEP_SLOTS, capacity_of(t->bytes));
    for (doubts->count = 0; slot < end && doubts->count < SWEEP_ENTRIES; slot++) {
        struct ledger_entry *entry = &t->entries[slot];
        if (entry->address == 0 || entry->live)
            continue;
        entry->is_doubted = true;
        doubts->addresses[doubts->count] = entry->address;
        doubts->arenas[doubts->count++] = entry->arena;
    }
    return slot;
}

/* Leaves those that are there. */
static void ask(struct doubts *doubts, bool (*is_there)(uintptr_t address, unsigned arena)) {
    size_t count = 0;
    for (size_t i = 0; i < doubts->count; i++)
        if (!is_there(doubts->addresses[i], doubts->arenas[i]))
            doubts->addresses[count++] = doubts->addresses[i];
    doubts->count = count;
}

/* Drops what was not put anew since it was doubted. Where to look next: from the first gap on, as what is not looked at
 * yet may have moved there; else at `slot`. */
static size_t drop(struct table *t, size_t slot, const struct doubts *doubts) {
    for (size_t i = 0; i < doubts->count; i++) {
        const struct ledger_entry *entry = look_up(doubts->addresses[i]);
        if (entry == NULL || entry->live || !entry->is_doubted)
            continue;
        size_t gap = (size_t)(entry - t->entries);
        remove_slot(t, gap);
        slot = min_size(slot, gap);
    }
    return slot;
}

static void shrink(struct table *t) {
    size_t size = t->bytes;
    while (size > os_page_size() && is_ample(t, size / 2))
        size /= 2;
    if (size < t->bytes)
        change_size(t, size);
}

bool ledger_sweep(bool (*is_there)(uintptr_t address, unsigned arena)) {
    struct doubts doubts;
    lock_acquire(&lock);
    struct table *t = begin_sweep();
    if (t == NULL) {
        lock_release(&lock);
        return false;
    }
    /* Others may remove entries meanwhile, or move all to a larger table: a few are not looked at then. */
    for (size_t slot = 0; slot < capacity_of(t->bytes);) {
        slot = doubt(t, slot, &doubts);
        lock_release(&lock);
        ask(&doubts, is_there);
        lock_acquire(&lock);
        slot = drop(t, slot, &doubts);
    }
    shrink(t);
    t->sweep_at = 2 * t->used;
    is_sweeping = false;
    lock_release(&lock);
    return true;
}

/* ------------------------------------------------------------------------------------- statistics and fork */
const void *ledger_memory(unsigned n, size_t *size) {
    lock_acquire(&lock);
    const struct table *t = n == 0 ? NULL : &parts[n - 1];
    const void *memory = t == NULL ? homes : is_home(t) ? NULL : (const void *)t->entries;
    *size = t == NULL ? homes_bytes() : t->bytes;
    lock_release(&lock);
    return memory;
}

void ledger_lock(void) {
    lock_acquire(&lock);
}

void ledger_unlock(void) {
    lock_release(&lock);
}

/* What a vanished thread was sweeping is due again when its next entry comes. */
void ledger_reset_lock(void) {
    is_sweeping = false;
    lock_reset(&lock);
}
