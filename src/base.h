/*
 * Words that every unit shares: attributes, small arithmetic, short names for the atomics.
 *
 * Atomics: every word that two threads may touch without a common lock is _Atomic, and is read and written through
 * these names, so that the order each access asks for stands at the access.
 */
#ifndef BASE_H
#define BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define PUBLIC     __attribute__((visibility("default")))
#define INLINE     static inline __attribute__((always_inline))
#define ASSUME(x)  ((x) ? (void)0 : __builtin_unreachable()) /* what the compiler cannot know */
#define OPAQUE(x)  __asm__("" : "+r"(x))                     /* what it could know, and is to forget: see tcache_pop */
#define NOINLINE   __attribute__((noinline))
#define COLD       __attribute__((noinline, cold))
#define ALIGNED(n) __attribute__((aligned(n)))

/* For large variables, all zero at first, of which few pages are used: they come behind all others, so that the small
 * ones do not lie in a page each between them. (The Makefile has the linker sort by name.) */
#define SPARSE __attribute__((section(".bss.sparse")))

#define load_relaxed(p)     atomic_load_explicit(p, memory_order_relaxed)
#define load_acquire(p)     atomic_load_explicit(p, memory_order_acquire)
#define store_relaxed(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit(p, v, memory_order_release)
#define add_relaxed(p, v)   atomic_fetch_add_explicit(p, v, memory_order_relaxed)
#define sub_relaxed(p, v)   atomic_fetch_sub_explicit(p, v, memory_order_relaxed)

/* `unit` is a power of two; the caller has made sure that rounding up cannot overflow. */
INLINE size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) & ~(unit - 1);
}

INLINE size_t round_down(size_t n, size_t unit) {
    return n & ~(unit - 1);
}

INLINE bool is_power_of_two(size_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

INLINE size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

INLINE size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Another number for each, as if drawn at random: from neighbouring keys priorities of a treap that is balanced. */
INLINE uint64_t scatter(uint64_t key) {
    uint64_t x = key * UINT64_C(0x9E3779B97F4A7C15);
    return (x ^ x >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
}

#endif
