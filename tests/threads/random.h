/*
 * What the randomised tests share: a seed that is printed and can be given back (SEED=n), a small generator, and
 * patterns that tell one block's contents from any other's.
 */
#ifndef THREADS_RANDOM_H
#define THREADS_RANDOM_H

#include "tap.h"

#include <stdint.h>
#include <time.h>

struct rng {
    uint64_t state; /* owner only */
};

/* The run's seed: $SEED, else the clock. Printed, so that a failure can be run again. */
__attribute__((unused)) static uint64_t random_seed(void) {
    const char *given = getenv("SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = given ? strtoull(given, NULL, 0) : ((uint64_t)now.tv_nsec * 2654435761u ^ (uint64_t)now.tv_sec);
    diag("seed %llu (SEED=%llu runs it again)", (unsigned long long)seed, (unsigned long long)seed);
    return seed;
}

/* A generator of its own for stream number `stream` (a thread, say) of the run `seed`. */
__attribute__((unused)) static struct rng rng_stream(uint64_t seed, uint64_t stream) {
    return (struct rng){.state = (seed + 1) * 0x9e3779b97f4a7c15u + stream * 0xbf58476d1ce4e5b9u};
}

/* splitmix64 (Steele, Lea, Flood 2014). */
__attribute__((unused)) static uint64_t rng_next(struct rng *rng) {
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A number from `low` to `high`, both included. */
__attribute__((unused)) static size_t rng_between(struct rng *rng, size_t low, size_t high) {
    return low + (size_t)(rng_next(rng) % (high - low + 1));
}

/* A request size as programs make them: mostly TINY, some SMALL, now and then LARGE. */
__attribute__((unused)) static size_t rng_size(struct rng *rng) {
    size_t kind = rng_between(rng, 1, 100);
    if (kind <= 80)
        return rng_between(rng, 0, 1024);
    if (kind <= 98)
        return rng_between(rng, 1025, 16 << 10);
    return rng_between(rng, 16 << 10, 200 << 10);
}

/* One byte of the pattern `tag`. Neighbouring offsets and neighbouring tags differ. */
static unsigned char pattern_at(uint64_t tag, size_t offset) {
    return (unsigned char)((tag * 0x9e3779b97f4a7c15u >> 56) + offset * 7 + (offset >> 8));
}

/* The next offset that a pattern covers: every byte of the first and last 256, and one in 512 between them. */
static size_t pattern_next(size_t offset, size_t size) {
    if (offset < 256 || size < 1024 || offset >= size - 256)
        return offset + 1;
    return offset + 512 < size - 256 ? offset + 512 : size - 256;
}

/* Writes the pattern `tag` over a block; pattern_holds says whether it is still there. */
__attribute__((unused)) static void pattern_write(void *block, size_t size, uint64_t tag) {
    for (size_t i = 0; i < size; i = pattern_next(i, size))
        ((unsigned char *)block)[i] = pattern_at(tag, i);
}

__attribute__((unused)) static int pattern_holds(const void *block, size_t size, uint64_t tag) {
    for (size_t i = 0; i < size; i = pattern_next(i, size))
        if (((const unsigned char *)block)[i] != pattern_at(tag, i))
            return 0;
    return 1;
}

#endif
