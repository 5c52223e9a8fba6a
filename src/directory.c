#include "directory.h"
#include "os.h"

#define LEAF_SIZE (LEAF_LINES * sizeof(struct slab_line))

/* In .bss: the pages that are touched, mostly one, are all that it costs. */
struct slab_line *_Atomic directory[LEAF_COUNT];

void directory_boot(void) {
    os_avoid_huge_pages(directory, sizeof directory);
}

/* Leaves are never taken back: the reader of a line needs no lock. */
bool directory_add(uintptr_t zone) {
    if (zone >> LEAF_SHIFT >= LEAF_COUNT)
        return false;
    struct slab_line *_Atomic *slot = &directory[zone >> LEAF_SHIFT];
    struct slab_line *none = NULL;
    if (load_acquire(slot) != NULL)
        return true;
    struct slab_line *leaf = os_map(LEAF_SIZE);
    if (leaf == NULL)
        return false;
    if (!atomic_compare_exchange_strong_explicit(slot, &none, leaf, memory_order_acq_rel, memory_order_acquire))
        os_unmap(leaf, LEAF_SIZE); /* another thread was faster */
    return true;
}
