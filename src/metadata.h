/*
 * Memory for the allocator's own structures: LARGE nodes, thread caches, magazines. Never returned to the kernel, so
 * what it hands out can be read at any later time; reused by power-of-two size.
 */
#ifndef METADATA_H
#define METADATA_H

#include "lock.h"

#define METADATA_MAX ((size_t)64 * 1024)

/* `size` bytes (at most METADATA_MAX) aligned to 64, contents indeterminate; or NULL. Callers hold no lock, or locks
 * of lower rank than the pool's; a system call may be made, so rather none. */
void *metadata_take(size_t size);

/* `size` as it was taken with. */
void metadata_give(void *block, size_t size);

struct metadata_totals {
    size_t mapped;
    size_t used; /* bytes of what is handed out, powers of two */
    struct lock_counts lock;
};
void metadata_total(struct metadata_totals *totals);

/* The chunk after `chunk`, which is the first with NULL; NULL: there are no more. All are of *size bytes, and stay. */
const void *metadata_next_chunk(const void *chunk, size_t *size);

/* For fork. */
void metadata_lock(void);
void metadata_unlock(void);
void metadata_reset_lock(void);

#endif
