/*
 * Blocks freed by threads that did not allocate them: in a ring, in pairs, many to one and one to many. Contents are
 * verified before each free, the memory of a steady exchange stays bounded, and every block leaves the register.
 */
#include "api/heapmap.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <pthread.h>

enum { THREADS = 16, BLOCKS = 60000, BATCH = 100, DEPTH = 8 };

struct batch {
    unsigned char *blocks[BATCH];
    size_t sizes[BATCH];
    uint64_t tag;
};

/* A bounded queue of batches. */
struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch batches[DEPTH]; /* under lock, as are the counts */
    size_t put, taken;
};

static struct queue queues[THREADS];
static uint64_t seed;
static atomic_size_t wrong, freed;

static void queue_put(struct queue *queue, const struct batch *batch) {
    pthread_mutex_lock(&queue->lock);
    while (queue->put - queue->taken == DEPTH)
        pthread_cond_wait(&queue->changed, &queue->lock);
    queue->batches[queue->put++ % DEPTH] = *batch;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

static struct batch queue_take(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    while (queue->put == queue->taken)
        pthread_cond_wait(&queue->changed, &queue->lock);
    struct batch batch = queue->batches[queue->taken++ % DEPTH];
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return batch;
}

static struct batch make(struct rng *rng) {
    struct batch batch = {.tag = rng_next(rng)};
    for (size_t i = 0; i < BATCH; i++) {
        /* Few sizes above TINY: this is about passing blocks, not about filling them. */
        batch.sizes[i] = i % 50 ? rng_between(rng, 0, 600) : rng_size(rng);
        batch.blocks[i] = malloc(batch.sizes[i]);
        pattern_write(batch.blocks[i], batch.sizes[i], batch.tag + i);
    }
    return batch;
}

static void release(const struct batch *batch) {
    for (size_t i = 0; i < BATCH; i++) {
        if (!pattern_holds(batch->blocks[i], batch->sizes[i], batch->tag + i))
            atomic_fetch_add(&wrong, 1);
        free(batch->blocks[i]);
    }
    atomic_fetch_add(&freed, BATCH);
}

/* Who gives to whom, and how many batches each makes and takes. */
struct role {
    struct rng rng;
    struct queue *to, *from; /* NULL: none */
    size_t make, take;
};

static void *play(void *argument) {
    struct role *role = argument;
    size_t made = 0, took = 0;
    while (made < role->make || took < role->take) {
        if (made < role->make) {
            struct batch batch = make(&role->rng);
            queue_put(role->to, &batch);
            made++;
        }
        if (took < role->take) {
            struct batch batch = queue_take(role->from);
            release(&batch);
            took++;
        }
    }
    return NULL;
}

static void run(const char *name, struct role *roles, size_t count) {
    pthread_t threads[THREADS];
    size_t most = 0;
    atomic_store(&freed, 0);
    for (size_t t = 0; t < count; t++)
        roles[t].rng = rng_stream(seed, t);
    for (size_t t = 0; t < count; t++)
        pthread_create(&threads[t], NULL, play, &roles[t]);
    for (size_t t = 0; t < count; t++) {
        size_t now = resident();
        most = now > most ? now : most;
        pthread_join(threads[t], NULL);
    }
    diag("%s: %zu blocks, at most %zu MiB resident", name, atomic_load(&freed), most / MIB);
    ok(atomic_load(&wrong) == 0, "%s: contents hold", name);
    /* At most THREADS * DEPTH batches are under way, 60 KiB each: 8 MiB, and as much again for each thread's cache. */
    ok(most < 96 * MIB, "%s: a steady exchange stays small", name);
    struct heapmap map = heapmap_read();
    ok(!map.error[0] && map.count <= 2 * THREADS, "%s: every block has left the register %s", name, map.error);
}

int main(void) {
    struct role roles[THREADS];
    size_t batches = BLOCKS / BATCH;
    seed = random_seed();
    for (size_t t = 0; t < THREADS; t++) {
        pthread_mutex_init(&queues[t].lock, NULL);
        pthread_cond_init(&queues[t].changed, NULL);
    }

    for (size_t t = 0; t < THREADS; t++)
        roles[t] =
            (struct role){.to = &queues[(t + 1) % THREADS], .from = &queues[t], .make = batches, .take = batches};
    run("ring", roles, THREADS);

    for (size_t t = 0; t < THREADS; t++)
        roles[t] = (struct role){.to = &queues[t ^ 1], .from = &queues[t], .make = batches, .take = batches};
    run("pairs", roles, THREADS);

    roles[0] = (struct role){.from = &queues[0], .take = batches * (THREADS - 1)};
    for (size_t t = 1; t < THREADS; t++)
        roles[t] = (struct role){.to = &queues[0], .make = batches};
    run("many to one", roles, THREADS);

    roles[0] = (struct role){.to = &queues[0], .make = batches * (THREADS - 1)};
    for (size_t t = 1; t < THREADS; t++)
        roles[t] = (struct role){.from = &queues[0], .take = batches};
    run("one to many", roles, THREADS);
    return tap_done();
}
