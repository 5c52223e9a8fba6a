/*
 * usage: report [text | json | info | signal | exit]
 * With 16 threads that hold blocks of several sizes and rest, prints what the word asks for on standard output; or
 * raises SIGUSR2 and allocates, or just exits.
 */
#include "cadastre.h"
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 16
#define BLOCKS  500

static void *blocks[THREADS][BLOCKS];
static pthread_barrier_t barrier;

static void *hold(void *number) {
    size_t t = (size_t)number;
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = 1 + (i * 7919 + t) % (i % 100 ? 5000 : 300000);
        blocks[t][i] = malloc(size);
        memset(blocks[t][i], 1, size / 2);
    }
    pthread_barrier_wait(&barrier);
    for (size_t i = t % 2; i < BLOCKS; i += 2) { /* every second block of a neighbour's */
        free(blocks[(t + 1) % THREADS][i]);
        blocks[(t + 1) % THREADS][i] = NULL;
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static int report(const char *what) {
    if (strcmp(what, "text") == 0)
        return cadastre_stats_print(1, CADASTRE_TEXT);
    if (strcmp(what, "json") == 0)
        return cadastre_stats_print(1, CADASTRE_JSON);
    if (strcmp(what, "info") ==
        0) /* and on standard error, the same figures as JSON: in this order, as stdio allocates */
        return malloc_info(0, stdout) || fflush(stdout) || cadastre_stats_print(2, CADASTRE_JSON);
    if (strcmp(what, "signal") == 0) {
        raise(SIGUSR2);
        free(malloc(1 << 20));
    }
    return 0;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (size_t t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, hold, (void *)t);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    int result = report(argc > 1 ? argv[1] : "exit");
    pthread_barrier_wait(&barrier);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    return result != 0;
}
