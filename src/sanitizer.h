/*
 * The runtime of a sanitizer, if there is one. gcc's are shared objects, before which a preloaded library comes: the
 * calls of a program's malloc arrive here, and the runtime, which must know every block, would find no leaks, and races
 * that are none. So where one is loaded no thread has a cache, as in the debugging modes, and each call goes on to it.
 * (clang's are a part of the program, whose malloc comes first.)
 */
#ifndef SANITIZER_H
#define SANITIZER_H

#include "base.h"

#define RUNTIMES(result, name, ...)                                                                                    \
    extern result sanitizer_##name(__VA_ARGS__) __asm__("__interceptor_" #name) __attribute__((weak));

RUNTIMES(void *, malloc, size_t size)
RUNTIMES(void *, calloc, size_t count, size_t size)
RUNTIMES(void *, realloc, void *block, size_t size)
RUNTIMES(void *, memalign, size_t alignment, size_t size)
RUNTIMES(void, free, void *block)
RUNTIMES(size_t, malloc_usable_size, void *block)

/* Our own builds for sanitizers have other names than the standard ones, and a heap. */
INLINE bool sanitizer_is_loaded(void) {
#ifdef CADASTRE_PREFIXED
    return false;
#else
    return sanitizer_malloc != NULL;
#endif
}

#endif
