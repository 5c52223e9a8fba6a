/*
 * A malloc of the program's own, or of a library before ours: malloc and free, and with FOUR calloc and realloc. Blocks
 * come from a pool and carry their size before them; what free does not know it gives to the C library's name for free.
 * With USER the functions that find such a malloc by its names, each of which must come to it. Prints "fine".
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Since C23; few C libraries have them. */
extern void free_sized(void *, size_t) __attribute__((weak));
extern void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));

#ifdef OWN
#define POOL_SIZE ((size_t)16 << 20)

extern void __libc_free(void *);

static _Alignas(16) char pool[POOL_SIZE];
static atomic_size_t used;
atomic_long own_taken, own_given;

static bool is_own(const void *block) {
    return (uintptr_t)block - (uintptr_t)pool < POOL_SIZE;
}

static void *take(size_t size) {
    size_t *start = (size_t *)(pool + atomic_fetch_add(&used, (size + 31) & ~(size_t)15));
    *start = size;
    atomic_fetch_add(&own_taken, 1);
    return start + 2;
}

void *malloc(size_t size) {
    return take(size);
}

void free(void *block) {
    if (is_own(block))
        atomic_fetch_add(&own_given, 1);
    else
        __libc_free(block);
}

#ifdef FOUR
void *calloc(size_t count, size_t size) {
    return take(count * size); /* the pool is used once */
}

void *realloc(void *block, size_t size) {
    if (block != NULL && !is_own(block)) {
        fputs("realloc of a block that is not ours\n", stderr);
        _Exit(3);
    }
    void *moved = take(size);
    if (block == NULL)
        return moved;
    size_t before = ((size_t *)block)[-2];
    memcpy(moved, block, before < size ? before : size);
    free(block);
    return moved;
}
#endif
#endif

#ifdef USER
extern atomic_long own_taken, own_given;

static int faults;

/* What was just done took at least one block from that malloc, and gave as many back as it took. */
static void expect_own(const char *what) {
    long taken = atomic_exchange(&own_taken, 0);
    long given = atomic_exchange(&own_given, 0);
    if (taken > 0 && taken == given)
        return;
    fprintf(stderr, "%s: %ld blocks taken, %ld given back\n", what, taken, given);
    faults++;
}

static void *use(void *unused) {
    free(malloc(10));
    return unused;
}

static void try_arrays(void) {
    char *text = malloc(10);
    strcpy(text, "abc");
    text = reallocarray(text, 100, 10);
    if (text == NULL || strcmp(text, "abc") != 0) {
        fputs("reallocarray of a block of malloc's\n", stderr);
        faults++;
    }
    free(text);
    expect_own("reallocarray");
    free(reallocarray(NULL, 10, 10));
    expect_own("reallocarray of NULL");
    if (reallocarray(NULL, SIZE_MAX, 2) != NULL)
        faults++;
    FILE *lines = fmemopen("one line\n", 9, "r");
    char *line = NULL;
    size_t room = 0;
    if (getline(&line, &room, lines) != 9)
        faults++;
    free(line);
    fclose(lines);
    expect_own("getline");
}

static void try_sized(void) {
    if (free_sized != NULL) {
        free_sized(malloc(10), 10);
        expect_own("free_sized");
    }
    if (free_aligned_sized != NULL) {
        free_aligned_sized(malloc(10), 16, 10);
        expect_own("free_aligned_sized");
    }
}

/* These have no part in a malloc that does not define them: their blocks are the C library's, or ours. */
static void try_others(void) {
    void *block = NULL;
    if (posix_memalign(&block, 64, 100) != 0)
        faults++;
    free(block);
    free(aligned_alloc(64, 128));
    free(memalign(4096, 100));
    free(valloc(100));
    free(pvalloc(100));
    char *zeros = calloc(10, 10);
    if (zeros == NULL || zeros[99] != 0)
        faults++;
    free(zeros);
}

int main(void) {
    pthread_t thread;
    setvbuf(stderr, NULL, _IONBF, 0);
    atomic_store(&own_taken, 0);
    atomic_store(&own_given, 0);
    free(malloc(10));
    expect_own("malloc");
    free(strdup("text"));
    expect_own("strdup");
#ifdef FOUR
    try_arrays();
#endif
    try_sized();
    try_others();
    for (int i = 0; i < 20; i++)
        if (pthread_create(&thread, NULL, use, NULL) != 0 || pthread_join(thread, NULL) != 0)
            faults++;
    if (faults == 0)
        puts("fine");
    return faults != 0;
}
#endif
