/*
 * What the public functions have in common: blocks with the ladder for when memory is out, and looking a block up.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include "base.h"

/* A live block of `class` for `size` bytes. When the kernel refuses: smaller zones, then all that is cached and
 * retained goes back, and the idle ends of zones, then other arenas; then NULL and ENOMEM. *zeroed: whether its bytes
 * are known to be zero. */
void *request_block(unsigned class, size_t size, bool *zeroed);

/* The same for a LARGE block with room for `room` bytes, size or more; sizes that cannot be are refused with ENOMEM. */
void *request_large(size_t size, size_t room, size_t alignment, bool *zeroed);

/* The requested size and the capacity of the live block that starts at `block`; false: there is none. */
bool request_describe(const void *block, size_t *size, size_t *capacity);

#endif
