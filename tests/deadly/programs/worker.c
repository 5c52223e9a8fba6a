/*
 * A library with a thread of its own, which allocates: fork stops and joins it, and parent and child start it again.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

void worker_await(void);

static pthread_t worker;
static atomic_int stop, rounds;

static void *work(void *argument) {
    while (!atomic_load(&stop)) {
        for (size_t i = 0; i < 100; i++)
            free(malloc(i * 1000));
        atomic_fetch_add(&rounds, 1);
    }
    return argument;
}

static void start(void) {
    atomic_store(&stop, 0);
    atomic_store(&rounds, 0);
    if (pthread_create(&worker, NULL, work, NULL) != 0)
        abort();
}

static void end(void) {
    atomic_store(&stop, 1);
    pthread_join(worker, NULL);
}

/* Until the thread has worked since it was last started. */
void worker_await(void) {
    while (atomic_load(&rounds) == 0)
        usleep(100);
}

__attribute__((constructor)) static void construct(void) {
    pthread_atfork(end, start, start);
    start();
}
