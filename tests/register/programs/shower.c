/* Prints a heap as JSON lines: with an argument while 16 threads change it, which end with the call. */
#include "cadastre.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 16, HELD = 300 };

static atomic_int stop;
static pthread_barrier_t filled;

static void *change(void *argument) {
    void *held[HELD] = {NULL};
    unsigned random = 12345 + (unsigned)(size_t)argument;
    for (size_t i = 0; !atomic_load(&stop); i++) {
        random = random * 1103515245u + 12345u;
        free(held[i % HELD]);
        held[i % HELD] = malloc(random >> 16 & 63 ? (random >> 8) % 3000 : 60000 + (random >> 8) % 100000);
        if (i == HELD)
            pthread_barrier_wait(&filled);
        if (i > HELD && i % 100 == 0)
            sched_yield();
    }
    for (size_t i = 0; i < HELD; i++)
        free(held[i]);
    return NULL;
}

int main(int argc, char **argv) {
    (void)argv;
    pthread_t threads[THREADS];
    pthread_barrier_init(&filled, NULL, THREADS + 1);
    for (size_t i = 0; i < 2000; i++)
        if (!malloc(i % 500 ? i : 70000 + i)) /* left there */
            return 1;
    for (size_t t = 0; argc > 1 && t < THREADS; t++)
        if (pthread_create(&threads[t], NULL, change, (void *)t) != 0)
            return 1;
    if (argc > 1)
        pthread_barrier_wait(&filled);
    struct cadastre_show what = {.size = sizeof what, .format = CADASTRE_JSON, .hexdump = 20};
    int failed = show_alloc_mem_ex(&what);
    atomic_store(&stop, 1);
    for (size_t t = 0; argc > 1 && t < THREADS; t++)
        pthread_join(threads[t], NULL);
    return failed != 0;
}
