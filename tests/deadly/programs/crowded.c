/*
 * crowded DIRECTORY: prints how many of the copies 0.so, 1.so ... of filler.c can be opened.
 * crowded DIRECTORY COUNT LIBRARY: opens COUNT of them and then the allocator, and uses it on several threads. Prints
 * "fine".
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, BLOCKS = 1000 };

static void *(*their_malloc)(size_t);
static void (*their_free)(void *);

static size_t open_fillers(const char *directory, size_t count) {
    char path[4096];
    size_t opened = 0;
    while (opened < count) {
        snprintf(path, sizeof path, "%s/%zu.so", directory, opened);
        void *library = dlopen(path, RTLD_NOW);
        if (!library)
            break;
        char *(*fill)(void) = (char *(*)(void))dlsym(library, "fill");
        memset(fill(), 1, 32);
        opened++;
    }
    return opened;
}

static void *allocate(void *argument) {
    unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++)
        memset(blocks[i] = their_malloc(i * 100), 1, i * 100);
    for (size_t i = 0; i < BLOCKS; i++)
        their_free(blocks[i]);
    return argument;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    if (argc < 4) {
        printf("%zu\n", open_fillers(argv[1], 1000));
        return 0;
    }
    size_t count = strtoul(argv[2], NULL, 10);
    if (open_fillers(argv[1], count) != count)
        return 1;
    void *library = dlopen(argv[3], RTLD_NOW);
    if (!library) {
        puts(dlerror());
        return 1;
    }
    *(void **)&their_malloc = dlsym(library, "cadastre_malloc");
    *(void **)&their_free = dlsym(library, "cadastre_free");
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, allocate, NULL);
    allocate(NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    puts("fine");
    return 0;
}
