/*
 * Opens the allocator (path as argument), lets threads use it, and closes it while they live: what it does when they
 * end must still be there. Prints "fine".
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, ROUNDS = 5, BLOCKS = 200 };

static void *(*their_malloc)(size_t);
static void (*their_free)(void *);
static pthread_barrier_t used, closed;

static void *use_and_end(void *kept) {
    for (size_t i = 0; i < BLOCKS; i++)
        their_free(memset(their_malloc(i * 500 + 1), 1, i * 500 + 1));
    *(void **)kept = their_malloc(100);
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&closed);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    void *kept[THREADS];
    pthread_barrier_init(&used, NULL, THREADS + 1);
    pthread_barrier_init(&closed, NULL, THREADS + 1);
    for (int round = 0; round < ROUNDS; round++) {
        void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
        if (!library) {
            puts(dlerror());
            return 1;
        }
        *(void **)&their_malloc = dlsym(library, "cadastre_malloc");
        *(void **)&their_free = dlsym(library, "cadastre_free");
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, use_and_end, &kept[i]);
        pthread_barrier_wait(&used);
        if (dlclose(library) != 0)
            return 1;
        pthread_barrier_wait(&closed);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
    puts("fine");
    return 0;
}
