/*
 * Which addresses are ours: one bit for each 8 MiB of address space says "a zone starts here". It tells a zone's
 * blocks from LARGE, foreign, stack and NULL by one load, whatever the caller passes.
 */
#ifndef DIRECTORY_H
#define DIRECTORY_H

#include "config.h"

#define DIRECTORY_BITS ((uintptr_t)1 << (ADDRESS_BITS - ZONE_SHIFT))

extern _Atomic uint64_t directory[DIRECTORY_BITS / 64];

/* True when `address` lies in the span of a zone of ours: a short zone may end before it. */
INLINE bool directory_contains(uintptr_t address) {
    uintptr_t slot = address >> ZONE_SHIFT;
    return LIKELY(slot < DIRECTORY_BITS) && (load_relaxed(&directory[slot / 64]) >> (slot % 64) & 1) != 0;
}

void directory_boot(void);

/* After the header is initialised; before the mapping goes. */
void directory_add(uintptr_t zone);
void directory_remove(uintptr_t zone);

#endif
