/*
 * A library whose handlers of fork allocate, registered by its constructor: before the allocator's own, if this library
 * is initialised first. Prepare handlers run in the opposite order, so that here every lock of the allocator is held.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Enough to need refills, a new slab, and a LARGE mapping. */
static void allocate(void) {
    static const size_t sizes[] = {16, 1000, 40000, 200000, 20000000};
    void *blocks[500];
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        size_t size = sizes[i % 100 == 99 ? 4 : i % 4];
        if (!(blocks[i] = malloc(size)))
            abort();
        memset(blocks[i], 1, size < 100 ? size : 100);
    }
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}

static __attribute__((constructor)) void register_handlers(void) {
    pthread_atfork(allocate, allocate, allocate);
}
