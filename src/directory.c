#include "directory.h"
#include "os.h"

/* In .bss, less than a huge page: the pages that are touched, mostly one or two, are all that it costs. */
SPARSE struct directory directory;

/* Where its leaves are, so that they are found without reading all of it. */
static _Atomic uintptr_t first_slot = LEAF_COUNT;
static _Atomic uintptr_t last_slot;

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

/* Leaves are never taken back: the reader of a line needs no lock. */
bool directory_add(uintptr_t zone) {
    uintptr_t slot = zone >> LEAF_SHIFT;
    ptrdiff_t none = 0;
    if (slot >= LEAF_COUNT)
        return false;
    if (load_acquire(&directory.leaves[slot]) != none)
        return true;
    struct leaf *leaf = os_map(sizeof *leaf);
    if (leaf == NULL)
        return false;
    os_avoid_huge_pages(leaf, sizeof *leaf);
    note_slot(slot);
    if (!atomic_compare_exchange_strong_explicit(&directory.leaves[slot], &none, (char *)leaf - (char *)&directory.none,
                                                 memory_order_acq_rel, memory_order_acquire))
        os_unmap(leaf, sizeof *leaf); /* another thread was faster */
    return true;
}

const struct leaf *directory_next_leaf(uintptr_t *slot) {
    uintptr_t last = load_relaxed(&last_slot);
    for (*slot = max_size(*slot, load_relaxed(&first_slot)); *slot <= last;) {
        ptrdiff_t distance = load_acquire(&directory.leaves[(*slot)++]);
        if (distance != 0)
            return (const struct leaf *)((const char *)&directory.none + distance);
    }
    return NULL;
}

void directory_note_large(uintptr_t start, struct node *node) {
    struct slab_line *line = directory_find(start);
    if (start >> LEAF_SHIFT >= LEAF_COUNT || load_acquire(&directory.leaves[start >> LEAF_SHIFT]) == 0)
        return;
    store_relaxed(slab_states(line), (state_byte *)node);
    store_release(&line->owner, OWNER_LARGE);
}

void directory_forget_large(uintptr_t start) {
    struct slab_line *line = directory_find(start);
    if (load_relaxed(&line->owner) == OWNER_LARGE)
        store_relaxed(&line->owner, 0);
}
