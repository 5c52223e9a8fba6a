/*
 * One thread only frees what 16 others only allocate, first in, first out, with a steady amount live: resident memory
 * is at most 1.3 times that, all along. For 10 seconds; with LONG=1 in the environment for 60.
 */
#include "limits/memory.h"
#include "threads/random.h"

#include <pthread.h>

enum { PRODUCERS = 16, BATCH = 64, MOST = 1 << 13 };

struct batch {
    unsigned char *blocks[BATCH];
    size_t sizes[BATCH];
};

/* The oldest first. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch ring[MOST]; /* under lock, as are the counts */
    size_t put, taken;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static uint64_t seed;
static size_t live_most; /* bytes */
static atomic_int stop;
static atomic_size_t live, wrong, freed; /* bytes, and blocks */

static int wait_for_room(void) {
    pthread_mutex_lock(&queue.lock);
    while ((atomic_load(&live) >= live_most || queue.put - queue.taken > MOST - PRODUCERS) && !atomic_load(&stop))
        pthread_cond_wait(&queue.changed, &queue.lock);
    pthread_mutex_unlock(&queue.lock);
    return !atomic_load(&stop);
}

static void put(const struct batch *batch) {
    pthread_mutex_lock(&queue.lock);
    queue.ring[queue.put++ % MOST] = *batch;
    pthread_cond_broadcast(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
}

static void *only_allocate(void *number) {
    struct rng rng = rng_stream(seed, (uintptr_t)number);
    while (wait_for_room()) {
        struct batch batch;
        for (size_t i = 0; i < BATCH; i++) {
            batch.sizes[i] = rng_size(&rng);
            batch.blocks[i] = malloc(batch.sizes[i]);
            memset(batch.blocks[i], (int)batch.sizes[i], batch.sizes[i]);
            atomic_fetch_add(&live, batch.sizes[i]);
        }
        put(&batch);
    }
    return NULL;
}

/* The oldest batch, once as much is live as may be; or, at the end, as long as there is any. */
static int take(struct batch *batch) {
    pthread_mutex_lock(&queue.lock);
    while (atomic_load(&live) < live_most && queue.put - queue.taken <= MOST - PRODUCERS && !atomic_load(&stop))
        pthread_cond_wait(&queue.changed, &queue.lock);
    int any = queue.taken < queue.put;
    if (any)
        *batch = queue.ring[queue.taken++ % MOST];
    pthread_mutex_unlock(&queue.lock);
    return any;
}

static void *only_free(void *argument) {
    struct batch batch;
    while (take(&batch)) {
        for (size_t i = 0; i < BATCH; i++) {
            unsigned char *block = batch.blocks[i], tag = (unsigned char)batch.sizes[i];
            if (batch.sizes[i] > 0 && (block[0] != tag || block[batch.sizes[i] - 1] != tag))
                atomic_fetch_add(&wrong, 1);
            free(block);
            atomic_fetch_sub(&live, batch.sizes[i]);
        }
        atomic_fetch_add(&freed, BATCH);
        pthread_mutex_lock(&queue.lock);
        pthread_cond_broadcast(&queue.changed);
        pthread_mutex_unlock(&queue.lock);
    }
    return argument;
}

int main(void) {
    pthread_t threads[PRODUCERS + 1];
    const char *is_long = getenv("LONG");
    int seconds = is_long && *is_long ? 60 : 10;
    size_t most = 0, live_then = 1;
    seed = random_seed();
    live_most = mem_bound(512 * MIB);
    if (live_most < 512 * MIB) { /* of less, what is kept however little is live is too large a part */
        ok(1, "resident is at most 1.3 times what is live # SKIP wants 2 GiB of memory available");
        return tap_done();
    }
    memset(queue.ring, 0, sizeof queue.ring); /* the test's own */
    size_t before = resident();
    for (size_t t = 0; t < PRODUCERS; t++)
        pthread_create(&threads[t], NULL, only_allocate, (void *)t);
    pthread_create(&threads[PRODUCERS], NULL, only_free, NULL);
    while (atomic_load(&live) < live_most / 10 * 9)
        usleep(10000);
    for (int i = 0; i < seconds * 20; i++) {
        usleep(50000);
        size_t bytes = atomic_load(&live), now = resident() - before;
        if (now * 100 / bytes > most * 100 / live_then)
            most = now, live_then = bytes;
    }
    atomic_store(&stop, 1);
    pthread_cond_broadcast(&queue.changed);
    for (size_t t = 0; t <= PRODUCERS; t++)
        pthread_join(threads[t], NULL);
    diag("%d s: %zu blocks freed; at most %zu MiB resident, with %zu MiB live (%zu.%02zu times)", seconds,
         atomic_load(&freed), most / MIB, live_then / MIB, most / live_then, most * 100 / live_then % 100);
    ok(atomic_load(&wrong) == 0, "contents hold");
    ok(most * 10 <= live_then * 13, "resident is at most 1.3 times what is live");
    return tap_done();
}
