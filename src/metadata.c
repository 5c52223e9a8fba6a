#include "metadata.h"
#include "config.h"
#include "message.h"
#include "os.h"

#define CHUNK_MIN  (256 * KIB)
#define CHUNK_MAX  (4 * MIB)
#define BUCKET_MIN 6 /* 64 bytes: a cache line of its own for each */
#define BUCKETS    (16 - BUCKET_MIN + 1)

struct free_block {
    struct free_block *next;
};

/* What a chunk begins with. All constant. */
struct chunk {
    ALIGNED(64) struct chunk *next; /* mapped before it */
    size_t size;
};

static struct lock lock = LOCK_INIT(LOCK_METADATA);
static struct free_block *free_blocks[BUCKETS]; /* under lock, as all here */
static struct chunk *chunks;                    /* the newest first */
static char *rest;                              /* the untouched rest of the newest chunk */
static size_t rest_left;
static size_t mapped;
static size_t used;

_Static_assert((size_t)1 << (BUCKET_MIN + BUCKETS - 1) == METADATA_MAX, "the last bucket holds the largest");
_Static_assert(CHUNK_MIN - sizeof(struct chunk) >= METADATA_MAX, "a chunk serves any size");

static unsigned bucket_of(size_t size) {
    return size <= (size_t)1 << BUCKET_MIN ? 0 : (unsigned)(64 - __builtin_clzll(size - 1)) - BUCKET_MIN;
}

static void push_free(unsigned bucket, void *p) {
    struct free_block *block = p;
    block->next = free_blocks[bucket];
    free_blocks[bucket] = block;
}

/* Under lock. The first `bytes` of the rest go to the free lists, piece by piece. */
static void shred_rest(size_t bytes) {
    for (unsigned bucket = BUCKETS; bucket-- > 0;) {
        size_t piece = (size_t)1 << (bucket + BUCKET_MIN);
        for (; bytes >= piece; bytes -= piece) {
            push_free(bucket, rest);
            rest += piece;
            rest_left -= piece;
        }
    }
}

/* Under lock. */
static void install_chunk(struct chunk *fresh, size_t size) {
    shred_rest(rest_left);
    *fresh = (struct chunk){chunks, size};
    chunks = fresh;
    mapped += size;
    rest = (char *)(fresh + 1);
    rest_left = size - sizeof *fresh;
}

/* Under lock. */
static void *take_block(unsigned bucket) {
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

/* Under lock. */
static void *take_pages(size_t size) {
    size_t before = round_up((uintptr_t)rest, os_page_size()) - (uintptr_t)rest;
    if (rest_left < before + size)
        return NULL;
    shred_rest(before);
    void *p = rest;
    rest += size;
    rest_left -= size;
    return p;
}

/* Under lock; NULL: a new chunk is needed, of *chunk_size bytes. */
static void *take_locked(size_t size, bool is_pages, size_t *chunk_size) {
    *chunk_size =
        max_size(round_up(size + os_page_size(), CHUNK_MIN), min_size(round_up(mapped, CHUNK_MIN), CHUNK_MAX));
    return is_pages ? take_pages(size) : take_block(bucket_of(size));
}

static void *take(size_t size, bool is_pages) {
    size_t chunk_size;
    lock_acquire(&lock);
    void *p = take_locked(size, is_pages, &chunk_size);
    lock_release(&lock);
    if (LIKELY(p != NULL))
        return p;
    struct chunk *fresh = os_map_own(chunk_size);
    if (fresh == NULL)
        return NULL;
    lock_acquire(&lock);
    install_chunk(fresh, chunk_size);
    p = take_locked(size, is_pages, &chunk_size);
    lock_release(&lock);
    return p;
}

void *metadata_take(size_t size) {
    ASSERT(size <= METADATA_MAX);
    return take(size, false);
}

void *metadata_take_pages(size_t size) {
    ASSERT(size <= METADATA_PAGES_MAX && size % os_page_size() == 0);
    return take(size, true);
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

const void *metadata_next_chunk(const void *before, size_t *size) {
    const struct chunk *chunk;
    if (before != NULL) {
        chunk = ((const struct chunk *)before)->next;
    } else {
        lock_acquire(&lock);
        chunk = chunks;
        lock_release(&lock);
    }
    *size = chunk == NULL ? 0 : chunk->size;
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
