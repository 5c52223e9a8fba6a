/*
 * usage: opened_late LIBRARY
 * Takes all keys of thread-specific data, then opens the library, and has 2,000 threads use its malloc, one after the
 * other. Prints "fine", or how many thread caches there are.
 */
#include "cadastre.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void *(*take)(size_t);
static void (*give)(void *);

static void *use(void *argument) {
    for (size_t size = 1; size < 3000; size += 100) {
        void *block = take(size);
        memset(block, 1, size);
        give(block);
    }
    return argument;
}

int main(int argc, char **argv) {
    pthread_key_t key;
    pthread_t thread;
    struct cadastre_stats stats = {0};
    while (pthread_key_create(&key, NULL) == 0)
        continue;
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!library)
        return puts(dlerror()), 1;
    *(void **)&take = dlsym(library, "malloc");
    *(void **)&give = dlsym(library, "free");
    int (*count)(struct cadastre_stats *, size_t);
    *(void **)&count = dlsym(library, "cadastre_stats");
    for (int i = 0; i < 2000; i++)
        if (pthread_create(&thread, NULL, use, NULL) != 0 || pthread_join(thread, NULL) != 0)
            return puts("no thread"), 1;
    if (count(&stats, sizeof stats) != 0 || stats.caches == 0 || stats.caches > 2 * stats.arenas + 2)
        return printf("%llu caches, %llu arenas\n", (unsigned long long)stats.caches, (unsigned long long)stats.arenas),
               1;
    return puts("fine") < 0;
}
