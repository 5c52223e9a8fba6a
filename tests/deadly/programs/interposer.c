/*
 * Interposes mmap and its kin as a tracer does, and clock_gettime as what fakes the time: each looks for the next one
 * with dlsym and allocates, which an allocator that calls it with a lock held, or before it is ready, does not survive.
 * Counts the calls.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

extern atomic_size_t interposed;
atomic_size_t interposed;

static void *find_next(const char *name) {
    static const size_t sizes[] = {40, 5000, 300000};
    atomic_fetch_add(&interposed, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *block = malloc(sizes[i]);
        memset(block, 1, sizes[i]);
        free(block);
    }
    dlsym(RTLD_NEXT, "no such function"); /* what dlerror would say is allocated */
    return dlsym(RTLD_NEXT, name);
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    void *(*next)(void *, size_t, int, int, int, off_t) = find_next("mmap");
    return next(address, size, protection, flags, fd, offset);
}

int munmap(void *address, size_t size) {
    int (*next)(void *, size_t) = find_next("munmap");
    return next(address, size);
}

void *mremap(void *address, size_t old_size, size_t new_size, int flags, ...) {
    void *(*next)(void *, size_t, size_t, int, void *) = find_next("mremap");
    va_list rest;
    va_start(rest, flags);
    void *wanted = flags & MREMAP_FIXED ? va_arg(rest, void *) : NULL;
    va_end(rest);
    return next(address, old_size, new_size, flags, wanted);
}

int madvise(void *address, size_t size, int advice) {
    int (*next)(void *, size_t, int) = find_next("madvise");
    return next(address, size, advice);
}

int mprotect(void *address, size_t size, int protection) {
    int (*next)(void *, size_t, int) = find_next("mprotect");
    return next(address, size, protection);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int (*next)(clockid_t, struct timespec *) = find_next("clock_gettime");
    return next(clock, time);
}
