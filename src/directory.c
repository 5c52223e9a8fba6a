#include "directory.h"
#include "os.h"

/* In .bss: the pages that are touched, mostly one or two, are all that it costs. */
SPARSE struct directory directory;

/* Its leaves once more, so that they are found without reading, and so touching, all of it. */
SPARSE static struct leaf *_Atomic leaves[LEAF_COUNT];
static _Atomic size_t leaf_count;

void directory_boot(void) {
    os_avoid_huge_pages(&directory, sizeof directory);
}

/* Leaves are never taken back: the reader of a line needs no lock. */
bool directory_add(uintptr_t zone) {
    if (zone >> LEAF_SHIFT >= LEAF_COUNT)
        return false;
    _Atomic ptrdiff_t *slot = &directory.leaves[zone >> LEAF_SHIFT];
    ptrdiff_t none = 0;
    if (load_acquire(slot) != none)
        return true;
    struct leaf *leaf = os_map(sizeof *leaf);
    if (leaf == NULL)
        return false;
    os_avoid_huge_pages(leaf, sizeof *leaf);
    if (atomic_compare_exchange_strong_explicit(slot, &none, (char *)leaf - (char *)&directory.none,
                                                memory_order_acq_rel, memory_order_acquire))
        store_relaxed(&leaves[add_relaxed(&leaf_count, 1)], leaf);
    else
        os_unmap(leaf, sizeof *leaf); /* another thread was faster */
    return true;
}

const struct leaf *directory_leaf(size_t number) {
    return number < load_relaxed(&leaf_count) ? load_relaxed(&leaves[number]) : NULL;
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
