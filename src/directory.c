#include "directory.h"
#include "os.h"

/* In .bss: the pages that are touched, mostly one or two, are all that it costs. */
struct directory directory;

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
    char *leaf = os_map(sizeof(struct leaf));
    if (leaf == NULL)
        return false;
    os_avoid_huge_pages(leaf, sizeof(struct leaf));
    if (!atomic_compare_exchange_strong_explicit(slot, &none, leaf - (char *)&directory.none, memory_order_acq_rel,
                                                 memory_order_acquire))
        os_unmap(leaf, sizeof(struct leaf)); /* another thread was faster */
    return true;
}
