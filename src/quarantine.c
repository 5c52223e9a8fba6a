#include "quarantine.h"
#include "lock.h"
#include "os.h"

#define BLOCKS_MAX ((size_t)1 << 16)

static struct lock lock = LOCK_INIT(LOCK_QUARANTINE);
static struct quarantined *ring; /* constant after boot, as the next */
static size_t bytes_max;
static size_t first; /* this and the next two under lock */
static size_t count;
static size_t bytes;

bool quarantine_boot(size_t limit) {
    ring = os_map_own(BLOCKS_MAX * sizeof *ring);
    bytes_max = ring == NULL ? 0 : limit;
    return ring != NULL;
}

bool quarantine_admits(size_t capacity) {
    return capacity <= bytes_max;
}

/* Under lock, as the next. */
static bool has_room(size_t capacity) {
    return count < BLOCKS_MAX && capacity <= bytes_max - bytes;
}

/* There is one. */
static struct quarantined take_oldest(void) {
    struct quarantined oldest = ring[first];
    first = (first + 1) % BLOCKS_MAX;
    count--;
    bytes -= oldest.capacity;
    return oldest;
}

bool quarantine_put(struct quarantined block, struct quarantined *oldest) {
    oldest->block = NULL;
    lock_acquire(&lock);
    if (!has_room(block.capacity))
        *oldest = take_oldest();
    bool fits = has_room(block.capacity);
    if (fits) {
        ring[(first + count++) % BLOCKS_MAX] = block;
        bytes += block.capacity;
    }
    lock_release(&lock);
    return fits;
}

bool quarantine_take(struct quarantined *block) {
    lock_acquire(&lock);
    bool any = count > 0;
    if (any)
        *block = take_oldest();
    lock_release(&lock);
    return any;
}

const void *quarantine_memory(size_t *size, size_t *held) {
    lock_acquire(&lock);
    *held = bytes;
    lock_release(&lock);
    *size = BLOCKS_MAX * sizeof *ring;
    return ring;
}

void quarantine_lock(void) {
    lock_acquire(&lock);
}

void quarantine_unlock(void) {
    lock_release(&lock);
}

void quarantine_reset_lock(void) {
    lock_reset(&lock);
}
