/*
 * Memory for the allocator's own structures: LARGE nodes, thread caches, magazines. Never returned to the kernel, so
 * what it hands out can be read at any later time; reused by power-of-two size. It comes from chunks between pages that
 * cannot be touched; each is about as long as all before it together, so that many threads need few mappings. So there
 * is, of each size, as much as was in use at once, and in the last chunk as much again or 4 MiB.
 */
#ifndef METADATA_H
#define METADATA_H

#include "lock.h"

#define METADATA_MAX       ((size_t)64 * 1024)
#define METADATA_PAGES_MAX ((size_t)256 * 1024)

/* `size` bytes (at most METADATA_MAX) aligned to 64, contents indeterminate; or NULL. Callers hold no lock, or locks
 * of lower rank than the pool's; a system call may be made, so rather none. */
void *metadata_take(size_t size);

/* `size` as it was taken with. */
void metadata_give(void *block, size_t size);

/* `size` bytes of whole pages (at most METADATA_PAGES_MAX), all zero, for ever; or NULL. As metadata_take. */
void *metadata_take_pages(size_t size);

struct metadata_totals {
    size_t mapped;
    size_t used; /* bytes of what is handed out, powers of two; without pages */
    struct lock_counts lock;
};
void metadata_total(struct metadata_totals *totals);

/* The chunk after `before`, which is the first with NULL; NULL: there are no more. It has *size bytes, and stays. */
const void *metadata_next_chunk(const void *before, size_t *size);

/* For fork. */
void metadata_lock(void);
void metadata_unlock(void);
void metadata_reset_lock(void);

#endif
