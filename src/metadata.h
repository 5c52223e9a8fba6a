/*
 * Memory for the allocator's own structures: LARGE nodes, thread caches, magazines. Never returned to the kernel, so
 * what it hands out can be read at any later time; reused by power-of-two size.
 */
#ifndef METADATA_H
#define METADATA_H

#include "base.h"

#define METADATA_MAX ((size_t)64 * 1024)

/* `size` bytes (at most METADATA_MAX) aligned to 64, contents indeterminate; or NULL. Callers hold no lock, or locks
 * of lower rank than the pool's; a system call may be made, so rather none. */
void *metadata_take(size_t size);

/* `size` as it was taken with. */
void metadata_give(void *block, size_t size);

/* For fork. */
void metadata_lock(void);
void metadata_unlock(void);
void metadata_reset_lock(void);

#endif
