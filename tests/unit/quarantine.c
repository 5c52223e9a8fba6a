/* The quarantine: first in, first out; bounded in bytes and in blocks; and from many threads each block once. */
#include "quarantine.h"
#include "tap.h"
#include <pthread.h>

enum { LIMIT = 1 << 20, BLOCKS_MAX = 1 << 16, THREADS = 8, EACH = 20000 };

static struct quarantined block_of(size_t number, size_t capacity) {
    return (struct quarantined){(void *)(number * 16), capacity};
}

static size_t number_of(struct quarantined block) {
    return (uintptr_t)block.block / 16;
}

static void order(void) {
    struct quarantined block, oldest;
    size_t in = 0;
    size_t out = 0;
    size_t bytes = 0;
    size_t wrong = 0;
    unsigned seed = 7;
    ok(!quarantine_take(&block), "there is nothing in it at first");
    for (size_t step = 0; step < 300000; step++) {
        seed = seed * 1103515245u + 12345u;
        size_t capacity = 16 + (seed >> 8) % 20000;
        bool fits = bytes + capacity <= LIMIT;
        bool is_in = quarantine_put(block_of(in + 1, capacity), &oldest);
        if (!fits) {
            wrong += oldest.block == NULL || number_of(oldest) != ++out;
            bytes -= oldest.capacity;
        }
        wrong += !quarantine_admits(capacity) || is_in != (bytes + capacity <= LIMIT);
        wrong += fits && oldest.block != NULL;
        if (is_in) {
            in++;
            bytes += capacity;
        }
        if (seed >> 30 == 0) {
            bool any = quarantine_take(&block);
            wrong += any != (out < in) || (any && number_of(block) != ++out);
            bytes -= any ? block.capacity : 0;
        }
    }
    while (quarantine_take(&block))
        wrong += number_of(block) != ++out;
    ok(wrong == 0 && out == in, "%zu blocks come out in the order in which they went in (%zu wrong)", in, wrong);
}

static void bounds(void) {
    struct quarantined block, oldest;
    size_t count = 0;
    size_t wrong = 0;
    ok(quarantine_admits(LIMIT) && !quarantine_admits(LIMIT + 1), "a block as large as all of it is admitted");
    ok(quarantine_put(block_of(1, LIMIT), &oldest) && oldest.block == NULL, "and fills it");
    ok(quarantine_put(block_of(2, 16), &oldest) && oldest.capacity == LIMIT, "it goes out when another comes");
    ok(quarantine_put(block_of(3, LIMIT), &oldest) && oldest.capacity == 16, "as that does");
    ok(quarantine_take(&block) && block.capacity == LIMIT && !quarantine_take(&block), "and the last comes out");
    for (oldest.block = NULL; oldest.block == NULL && count <= BLOCKS_MAX; count += oldest.block == NULL)
        wrong += !quarantine_put(block_of(count + 1, 1), &oldest);
    ok(wrong == 0 && count == BLOCKS_MAX && number_of(oldest) == 1, "%zu blocks of a byte fit", count);
    ok(!quarantine_put(block_of(7, LIMIT), &oldest) && number_of(oldest) == 2, "only one goes out at a time");
    count--;
    while (quarantine_take(&block))
        count--;
    ok(count == 0, "all come out");
}

static atomic_uchar seen[THREADS * EACH + 1];

static void *exchange(void *argument) {
    size_t first = (size_t)(uintptr_t)argument * EACH;
    struct quarantined oldest;
    for (size_t i = 1; i <= EACH; i++) {
        bool is_in;
        do {
            is_in = quarantine_put(block_of(first + i, 1 + i % 5000), &oldest);
            if (oldest.block != NULL)
                seen[number_of(oldest)]++;
        } while (!is_in);
    }
    return NULL;
}

static void from_threads(void) {
    pthread_t threads[THREADS];
    struct quarantined block;
    size_t wrong = 0;
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, exchange, (void *)i);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    while (quarantine_take(&block))
        seen[number_of(block)]++;
    for (size_t i = 1; i <= THREADS * EACH; i++)
        wrong += seen[i] != 1;
    ok(wrong == 0, "%d blocks of %d threads come out once each (%zu do not)", THREADS * EACH, THREADS, wrong);
}

int main(void) {
    ok(!quarantine_admits(1), "off, it admits nothing");
    ok(quarantine_boot(LIMIT), "it can be switched on");
    order();
    bounds();
    from_threads();
    return tap_done();
}
