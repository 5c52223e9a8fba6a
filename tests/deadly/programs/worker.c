/*
 * A library with a thread of its own, which allocates. fork stops and joins it, with STOPS, and parent and child start
 * it again. The handlers are registered by a constructor; with FIRST, which is for programs, before any constructor
 * has run.
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

static void end(void) {
    if (rounds > 0) {
        atomic_store(&stop, 1);
        pthread_join(worker, NULL);
    }
}

static void start(void) {
    atomic_store(&stop, 0);
    atomic_store(&rounds, 0);
    if (pthread_create(&worker, NULL, work, NULL) != 0)
        abort();
}

static void start_in_child(void) {
    alarm(20);
    start();
    usleep(2000); /* if the allocator's locks are still held, the thread comes to wait for one */
}

/* Until the thread has worked since it was last started. */
void worker_await(void) {
    while (atomic_load(&rounds) == 0)
        usleep(100);
}

static void handle_forks(void) {
#ifdef STOPS
    pthread_atfork(end, start, start_in_child);
#else
    (void)end;
    pthread_atfork(NULL, NULL, start_in_child);
#endif
}

#ifdef FIRST
__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = handle_forks;
#else
__attribute__((constructor)) static void construct(void) {
    handle_forks();
}
#endif
