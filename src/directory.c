#include "directory.h"
#include "lock.h"
#include "os.h"

/* In .bss, less than a huge page: the pages that are touched, mostly one or two, are all that it costs. */
SPARSE struct directory directory;

/* Where its leaves are, so that they are found without reading all of it. */
static _Atomic uintptr_t first_slot = LEAF_COUNT;
static _Atomic uintptr_t last_slot;

static size_t leaf_bytes(void) {
    return round_up(sizeof(struct leaf), os_page_size());
}

static void note_slot(uintptr_t slot) {
    uintptr_t first = load_relaxed(&first_slot);
    uintptr_t last = load_relaxed(&last_slot);
    while (slot < first && !atomic_compare_exchange_weak_explicit(&first_slot, &first, slot, memory_order_relaxed,
                                                                  memory_order_relaxed))
        ;
    while (slot > last &&
           !atomic_compare_exchange_weak_explicit(&last_slot, &last, slot, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Leaves are never unmapped: the reader of a line needs no lock. */
bool directory_add(uintptr_t address) {
    uintptr_t slot = address >> LEAF_SHIFT;
    ptrdiff_t none = 0;
    if (slot >= LEAF_COUNT)
        return false;
    if (load_acquire(&directory.leaves[slot]) != none)
        return true;
    struct leaf *leaf = os_map_own(leaf_bytes());
    if (leaf == NULL)
        return false;
    note_slot(slot);
    if (!atomic_compare_exchange_strong_explicit(&directory.leaves[slot], &none, (char *)leaf - (char *)&directory.none,
                                                 memory_order_acq_rel, memory_order_acquire))
        os_unmap_own(leaf, leaf_bytes()); /* another thread was faster */
    return true;
}

/* NULL: there is none. */
static struct leaf *leaf_at(uintptr_t slot) {
    ptrdiff_t distance = slot < LEAF_COUNT ? load_acquire(&directory.leaves[slot]) : 0;
    return distance == 0 ? NULL : (struct leaf *)((char *)&directory.none + distance);
}

const struct leaf *directory_next_leaf(uintptr_t *slot, size_t *size) {
    uintptr_t last = load_relaxed(&last_slot);
    *size = leaf_bytes();
    for (*slot = max_size(*slot, load_relaxed(&first_slot)); *slot <= last;) {
        const struct leaf *leaf = leaf_at((*slot)++);
        if (leaf != NULL)
            return leaf;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------- pages of lines */
static size_t lines_on_page(void) {
    return os_page_size() / sizeof(struct slab_line);
}

uintptr_t directory_page_start(uintptr_t address) {
    return round_down(address, lines_on_page() * UNIT_SIZE);
}

/* Of the leaf that is there. */
static struct leaf_page *page_at(struct leaf *leaf, uintptr_t address) {
    return &leaf->pages[directory_unit(address) / lines_on_page()];
}

static void note_use(struct leaf_page *page) {
    if (!load_relaxed(&page->is_used))
        store_relaxed(&page->is_used, true);
}

bool directory_enter(uintptr_t zone) {
    if (!directory_add(zone))
        return false;
    struct leaf_page *page = page_at(leaf_at(zone >> LEAF_SHIFT), zone);
    uint8_t zones = load_relaxed(&page->zones);
    do {
        if (zones == LEAF_PAGE_PURGING)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&page->zones, &zones, zones + 1, memory_order_acquire,
                                                    memory_order_relaxed));
    note_use(page);
    return true;
}

static bool is_blank(const struct slab_line *lines) {
    for (size_t i = 0; i < lines_on_page(); i++)
        if (load_relaxed(&lines[i].owner) != 0)
            return false;
    return true;
}

/* What is noted of a LARGE block meanwhile may get lost: a hint, no more. */
static void purge_page(struct leaf *leaf, size_t index) {
    struct leaf_page *page = &leaf->pages[index];
    struct slab_line *lines = &leaf->lines[index * lines_on_page()];
    uint8_t none = 0;
    lock_begin_work(); /* directory_reset ends what others do */
    if (load_relaxed(&page->is_used) && is_blank(lines) &&
        atomic_compare_exchange_strong_explicit(&page->zones, &none, LEAF_PAGE_PURGING, memory_order_acq_rel,
                                                memory_order_relaxed)) {
        bool is_purged =
            is_blank(lines) && os_purge(lines, os_page_size()) && os_purge(slab_states(lines), os_page_size());
        store_relaxed(&page->is_used, !is_purged);
        store_release(&page->zones, 0);
    }
    lock_end_work();
}

void directory_leave(uintptr_t zone) {
    struct leaf *leaf = leaf_at(zone >> LEAF_SHIFT);
    struct leaf_page *page = page_at(leaf, zone);
    if (atomic_fetch_sub_explicit(&page->zones, 1, memory_order_acq_rel) == 1)
        purge_page(leaf, (size_t)(page - leaf->pages));
}

void directory_purge(uintptr_t start, uintptr_t end) {
    uintptr_t first = max_size(start >> LEAF_SHIFT, load_relaxed(&first_slot));
    uintptr_t last = min_size((end - 1) >> LEAF_SHIFT, load_relaxed(&last_slot));
    for (uintptr_t slot = first; slot <= last; slot++) {
        struct leaf *leaf = leaf_at(slot);
        if (leaf == NULL)
            continue;
        size_t from = slot > start >> LEAF_SHIFT ? 0 : directory_unit(start);
        size_t to = slot < (end - 1) >> LEAF_SHIFT ? LEAF_LINES - 1 : directory_unit(end - 1);
        for (size_t index = from / lines_on_page(); index <= to / lines_on_page(); index++)
            purge_page(leaf, index);
    }
}

void directory_reset(void) {
    for (uintptr_t slot = load_relaxed(&first_slot); slot <= load_relaxed(&last_slot); slot++) {
        struct leaf *leaf = leaf_at(slot);
        for (size_t i = 0; leaf != NULL && i < LEAF_PAGES_MAX; i++)
            if (load_relaxed(&leaf->pages[i].zones) == LEAF_PAGE_PURGING)
                store_relaxed(&leaf->pages[i].zones, 0);
    }
}

/* ---------------------------------------------------------------------------------------------------- holes */
void directory_add_hole(uintptr_t zone) {
    struct leaf *leaf = leaf_at(zone >> LEAF_SHIFT);
    size_t place = (zone >> ZONE_SHIFT) % LEAF_PLACES;
    atomic_fetch_or_explicit(&leaf->holes[place / 64], UINT64_C(1) << place % 64, memory_order_relaxed);
}

/* The highest one of a word that is still there when it is taken; 64: none. */
static unsigned take_highest(_Atomic uint64_t *holes) {
    uint64_t left;
    while ((left = load_relaxed(holes)) != 0) {
        unsigned highest = 63 - (unsigned)__builtin_clzll(left);
        uint64_t bit = UINT64_C(1) << highest;
        if ((atomic_fetch_and_explicit(holes, ~bit, memory_order_relaxed) & bit) != 0)
            return highest;
    }
    return 64;
}

uintptr_t directory_take_hole(void) {
    for (uintptr_t slot = load_relaxed(&last_slot) + 1; slot-- > load_relaxed(&first_slot);) {
        struct leaf *leaf = leaf_at(slot);
        for (size_t word = LEAF_PLACES / 64; leaf != NULL && word-- > 0;) {
            unsigned bit = take_highest(&leaf->holes[word]);
            if (bit < 64)
                return slot << LEAF_SHIFT | (uintptr_t)(word * 64 + bit) << ZONE_SHIFT;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------- LARGE blocks */
void directory_note_large(uintptr_t start, struct node *node) {
    struct leaf *leaf = leaf_at(start >> LEAF_SHIFT);
    if (leaf == NULL)
        return;
    struct slab_line *line = &leaf->lines[directory_unit(start)];
    store_relaxed(slab_states(line), (state_byte *)node);
    store_release(&line->owner, OWNER_LARGE);
    note_use(page_at(leaf, start));
}

void directory_forget_large(uintptr_t start, const struct node *node) {
    struct slab_line *line = directory_find(start);
    const state_byte *noted = load_relaxed(slab_states(line));
    if (load_relaxed(&line->owner) == OWNER_LARGE && (noted == (const state_byte *)node || noted == NULL))
        store_relaxed(&line->owner, 0);
}
