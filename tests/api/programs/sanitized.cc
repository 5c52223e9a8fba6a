/*
 * What a sanitizer's runtime must see, in a program that it is linked with:
 *   threads   blocks that go from thread to thread by free and malloc, which orders what the threads do; prints "fine"
 *   race      two threads that write one block
 *   frees     a block of each function, freed; prints "fine"
 *   leaks     the same, forgotten: 14 blocks, 1,400 bytes
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>
#include <pthread.h>

extern "C" void free_sized(void *, size_t) __attribute__((weak));
extern "C" void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));

static const size_t SIZE = 100;
static int faults;

static void *pass_on(void *unused) {
    for (int round = 0; round < 20; round++) {
        char *blocks[100];
        for (int i = 0; i < 100; i++) {
            size_t size = 1000 + (size_t)i * 7919 % 100000;
            blocks[i] = (char *)malloc(size);
            memset(blocks[i], 1, size);
        }
        for (char *block : blocks)
            free(block);
    }
    return unused;
}

static void *write_it(void *block) {
    *(volatile char *)block = 1;
    return nullptr;
}

static void in_threads(void *(*function)(void *), void *argument) {
    pthread_t threads[4];
    for (pthread_t &thread : threads)
        if (pthread_create(&thread, nullptr, function, argument) != 0)
            abort();
    for (pthread_t &thread : threads)
        pthread_join(thread, nullptr);
}

/* Not as a variable, in which it would be found. */
static void take(void *block, bool leak) {
    if (block == nullptr || malloc_usable_size(block) < SIZE) {
        fprintf(stderr, "a block of %zu bytes\n", block == nullptr ? 0 : malloc_usable_size(block));
        faults++;
    }
    memset(block, 1, SIZE);
    if (!leak)
        free(block);
}

static void *aligned(void) {
    void *block = nullptr;
    return posix_memalign(&block, 64, SIZE) == 0 ? block : nullptr;
}

__attribute__((noinline)) static void try_each(bool leak) {
    take(malloc(SIZE), leak);
    take(calloc(1, SIZE), leak);
    take(realloc(nullptr, SIZE), leak);
    take(realloc(malloc(5 * SIZE), SIZE), leak);
    take(reallocarray(nullptr, 1, SIZE), leak);
    take(reallocarray(malloc(5 * SIZE), 1, SIZE), leak);
    take(aligned_alloc(4, SIZE), leak);
    take(aligned(), leak);
    take(memalign(64, SIZE), leak);
    take(strdup("this is a text of 100 bytes, with the one that ends it; the rest of it are nothing but full stops.."),
         leak);
    for (int kind = 0; kind < 4; kind++) {
        void *block = kind == 0   ? operator new(SIZE)
                      : kind == 1 ? operator new[](SIZE)
                      : kind == 2 ? operator new(SIZE, std::nothrow)
                                  :
                                  operator new(SIZE, std::align_val_t(64));
        memset(block, 1, SIZE);
        if (leak)
            continue;
        if (kind == 1)
            operator delete[](block);
        else if (kind == 3)
            operator delete(block, std::align_val_t(64));
        else
            operator delete(block);
    }
}

static void try_the_rest(void) {
    free(valloc(SIZE));
    free(pvalloc(SIZE));
    if (free_sized != nullptr)
        free_sized(malloc(SIZE), SIZE);
    if (free_aligned_sized != nullptr)
        free_aligned_sized(aligned(), 64, SIZE);
}

/* What has been left of pointers to forgotten blocks goes. */
__attribute__((noinline)) static void wipe_stack(void) {
    volatile char bytes[8192];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = 0;
}

int main(int, char **arguments) {
    static char shared;
    const char *mode = arguments[1];
    if (strcmp(mode, "threads") == 0)
        in_threads(pass_on, nullptr);
    else if (strcmp(mode, "race") == 0)
        in_threads(write_it, &shared);
    else
        try_each(strcmp(mode, "leaks") == 0);
    try_the_rest();
    wipe_stack();
    if (faults == 0)
        puts("fine");
    return faults != 0;
}
