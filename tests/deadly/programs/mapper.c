/*
 * Makes an allocator map, grow, move, purge and unmap, again and again, on several threads, and maps some memory
 * itself. Prints "fine" if interposer.c was called for the latter alone.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { THREADS = 4, BLOCKS = 400, OWN = 10, ROUNDS = 5 };

static void allocate_some(void) {
    unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i % 100 == 99 ? 9 << 20 : i % 10 == 9 ? 200000 : i * 50;
        blocks[i] = malloc(size);
        memset(blocks[i], 1, size < 4096 ? size : 4096);
    }
    for (size_t i = 9; i < BLOCKS; i += 10)
        blocks[i] = realloc(blocks[i], 20 << 20);
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static void *allocate(void *argument) {
    for (int i = 0; i < ROUNDS; i++)
        allocate_some();
    return argument;
}

int main(void) {
    pthread_t threads[THREADS];
    atomic_size_t *interposed = dlsym(RTLD_DEFAULT, "interposed");
    for (int i = 0; i < OWN; i++)
        munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, allocate, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    malloc_trim(0);
    if (interposed && atomic_load(interposed) == 2 * OWN)
        puts("fine");
    else
        printf("mmap and its kin were called %zu times, not %d\n", interposed ? atomic_load(interposed) : 0, 2 * OWN);
    return 0;
}
