/*
 * The quarantine: freed blocks that are kept from being handed out again for a while, first in, first out, so that a
 * wrong use of one is more likely to be seen. A debugging mode; bounded in bytes, and in blocks.
 */
#ifndef QUARANTINE_H
#define QUARANTINE_H

#include "base.h"

struct quarantined {
    void *block;
    size_t capacity;
};

/* Switches it on; false: no memory. Once, at boot. */
bool quarantine_boot(size_t bytes);

/* Whether a block of that capacity would be kept at all. */
bool quarantine_admits(size_t capacity);

/* A block comes in, one that is admitted; where there is no room the oldest goes out first, else oldest->block is NULL.
 * false: that did not make enough, and it did not come in. */
bool quarantine_put(struct quarantined block, struct quarantined *oldest);

/* The oldest goes out; false: there is none. */
bool quarantine_take(struct quarantined *block);

/* Its own memory, *size bytes long, or NULL; and the bytes of the blocks in it. For statistics. */
const void *quarantine_memory(size_t *size, size_t *held);

/* For fork. */
void quarantine_lock(void);
void quarantine_unlock(void);
void quarantine_reset_lock(void);

#endif
