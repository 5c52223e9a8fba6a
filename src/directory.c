#include "directory.h"
#include "message.h"
#include "os.h"

/* In .bss: the pages that are touched, mostly one, are all that it costs. */
_Atomic uint64_t directory[DIRECTORY_BITS / 64];

void directory_boot(void) {
    os_avoid_huge_pages(directory, sizeof directory);
}

void directory_add(uintptr_t zone) {
    uintptr_t slot = zone >> ZONE_SHIFT;
    ASSERT(zone % ZONE_SPAN == 0 && slot < DIRECTORY_BITS && !directory_contains(zone));
    atomic_fetch_or_explicit(&directory[slot / 64], UINT64_C(1) << (slot % 64), memory_order_release);
}

void directory_remove(uintptr_t zone) {
    uintptr_t slot = zone >> ZONE_SHIFT;
    ASSERT(directory_contains(zone));
    atomic_fetch_and_explicit(&directory[slot / 64], ~(UINT64_C(1) << (slot % 64)), memory_order_release);
}
