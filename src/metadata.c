#include "metadata.h"
#include "config.h"
#include "message.h"
#include "os.h"

#define CHUNK_SIZE (256 * KIB)
#define BUCKET_MIN 6 /* 64 bytes: a cache line of its own for each */
#define BUCKETS    (16 - BUCKET_MIN + 1)

struct free_block {
    struct free_block *next;
};

/* What a chunk begins with. */
struct chunk {
    ALIGNED(64) struct chunk *next; /* mapped before it; constant */
};

static struct lock lock = LOCK_INIT(LOCK_METADATA);
static struct free_block *free_blocks[BUCKETS]; /* under lock, as all here */
static struct chunk *chunks;                    /* the newest first */
static char *rest;                              /* the untouched rest of the newest chunk */
static size_t rest_left;
static size_t mapped;
static size_t used;

_Static_assert((size_t)1 << (BUCKET_MIN + BUCKETS - 1) == METADATA_MAX, "the last bucket holds the largest");
_Static_assert(CHUNK_SIZE - sizeof(struct chunk) >= METADATA_MAX, "a chunk serves any size");

static unsigned bucket_of(size_t size) {
    return size <= (size_t)1 << BUCKET_MIN ? 0 : (unsigned)(64 - __builtin_clzll(size - 1)) - BUCKET_MIN;
}

static void push_free(unsigned bucket, void *p) {
    struct free_block *block = p;
    block->next = free_blocks[bucket];
    free_blocks[bucket] = block;
}

/* Under lock. What is left of an old chunk goes to the free lists, piece by piece. */
static void install_chunk(struct chunk *fresh) {
    for (unsigned bucket = BUCKETS; bucket-- > 0;) {
        size_t piece = (size_t)1 << (bucket + BUCKET_MIN);
        while (rest_left >= piece) {
            push_free(bucket, rest);
            rest += piece;
            rest_left -= piece;
        }
    }
    fresh->next = chunks;
    chunks = fresh;
    mapped += CHUNK_SIZE;
    rest = (char *)(fresh + 1);
    rest_left = CHUNK_SIZE - sizeof *fresh;
}

/* Under lock. */
static void *take_locked(unsigned bucket) {
    size_t size = (size_t)1 << (bucket + BUCKET_MIN);
    struct free_block *block = free_blocks[bucket];
    if (block != NULL) {
        free_blocks[bucket] = block->next;
        used += size;
        return block;
    }
    if (rest_left < size)
        return NULL;
    void *p = rest;
    rest += size;
    rest_left -= size;
    used += size;
    return p;
}

void *metadata_take(size_t size) {
    ASSERT(size <= METADATA_MAX);
    unsigned bucket = bucket_of(size);
    lock_acquire(&lock);
    void *p = take_locked(bucket);
    lock_release(&lock);
    if (LIKELY(p != NULL))
        return p;
    struct chunk *fresh = os_map(CHUNK_SIZE);
    if (fresh == NULL)
        return NULL;
    os_avoid_huge_pages(fresh, CHUNK_SIZE);
    lock_acquire(&lock);
    install_chunk(fresh);
    p = take_locked(bucket);
    lock_release(&lock);
    return p;
}

void metadata_give(void *p, size_t size) {
    unsigned bucket = bucket_of(size);
    lock_acquire(&lock);
    push_free(bucket, p);
    used -= (size_t)1 << (bucket + BUCKET_MIN);
    lock_release(&lock);
}

void metadata_total(struct metadata_totals *totals) {
    lock_acquire(&lock);
    *totals = (struct metadata_totals){mapped, used, lock.counts};
    lock_release(&lock);
}

const void *metadata_next_chunk(const void *chunk, size_t *size) {
    *size = CHUNK_SIZE;
    if (chunk != NULL)
        return ((const struct chunk *)chunk)->next;
    lock_acquire(&lock);
    chunk = chunks;
    lock_release(&lock);
    return chunk;
}

void metadata_lock(void) {
    lock_acquire(&lock);
}

void metadata_unlock(void) {
    lock_release(&lock);
}

void metadata_reset_lock(void) {
    lock_reset(&lock);
}
