/*
 * Has the C library and the loader take what they keep: for threads that run and threads that have ended, for the
 * environment, time zones, users, streams, errors and a library that stays open. With an argument, it leaks: four
 * blocks of that many bytes; or, if it is 0, a stream.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 16 };

static pthread_barrier_t all_there;

static void *runs(void *waits) {
    static __thread char *own;
    own = malloc(100);
    dlopen("libno-such-library.so", RTLD_NOW);
    if (dlerror() == NULL)
        abort();
    free(own);
    if (waits != NULL) {
        pthread_barrier_wait(&all_there);
        pause();
    }
    return NULL;
}

static void start_threads(void *waits) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, runs, waits) != 0)
            abort();
    for (int i = 0; i < THREADS && waits == NULL; i++)
        pthread_join(threads[i], NULL);
}

static void leak(size_t size) {
    for (int i = 0; i < 4; i++)
        memset(malloc(size), 1, size);
}

int main(int argc, char **argv) {
    time_t now = 0;
    struct tm local;
    pthread_barrier_init(&all_there, NULL, THREADS + 1);
    setenv("CADASTRE_TEST_NAME", "cadastre", 1);
    setenv("TZ", "Europe/Berlin", 1);
    localtime_r(&now, &local);
    if (getpwnam("root") == NULL || dlopen("libm.so.6", RTLD_NOW) == NULL)
        abort();
    printf("%d\n", local.tm_year);
    fflush(stdout);
    if (argc > 1 && atoi(argv[1]) != 0)
        leak((size_t)atoi(argv[1]));
    else if (argc > 1 && fgetc(fopen("/proc/self/maps", "r")) == EOF)
        abort();
    runs(NULL);
    start_threads(NULL);
    start_threads(argv);
    pthread_barrier_wait(&all_there);
    return 0;
}
