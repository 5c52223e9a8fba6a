/*
 * show_alloc_mem on one thread and on several: the format to the letter, sizes exact through every call that sets
 * them, and nothing listed that is not live.
 */
#include "api/heapmap.h"
#include "threads/random.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>

/* Whether the heap map is well-formed, with the reason if not. */
static int well_formed(const struct heapmap *map) {
    if (map->error[0])
        diag("show_alloc_mem: %s", map->error);
    return map->error[0] == '\0';
}

/* What the C library has taken for itself before main: in glibc nothing; in musl a list of fork handlers, which stands
 * in every picture. */
static size_t own_blocks, own_bytes;

static void empty_heap(void) {
    struct heapmap map = heapmap_read();
    own_blocks = map.count;
    own_bytes = map.total;
#if defined(__GLIBC__)
    ok(map.count == 0, "before the program's first malloc no block is live");
    ok(strcmp(map.text, "Total : 0 bytes\n") == 0, "an empty heap prints only its total");
#else
    ok(well_formed(&map) && map.count <= 1,
       "before the program's first malloc only a block of the C library's is live");
#endif
}

static void by_the_letter(void) {
    char *block = malloc(42), expected[256];
    struct heapmap map = heapmap_read();
    snprintf(expected, sizeof expected, "TINY : 0x%lX\n0x%lX - 0x%lX : 42 bytes\nTotal : 42 bytes\n",
             map.count ? (unsigned long)map.blocks[0].heading : 0ul, (unsigned long)block, (unsigned long)block + 42);
    ok(strcmp(map.text, expected) == 0, "one TINY block, to the letter");
    free(block);
    block = malloc(3725);
    map = heapmap_read();
    snprintf(expected, sizeof expected, "SMALL : 0x%lX\n0x%lX - 0x%lX : 3725 bytes\nTotal : 3725 bytes\n",
             map.count ? (unsigned long)map.blocks[0].heading : 0ul, (unsigned long)block, (unsigned long)block + 3725);
    ok(strcmp(map.text, expected) == 0, "one SMALL block; the empty TINY zone is not printed");
    free(block);
    block = malloc(1000001);
    map = heapmap_read();
    snprintf(expected, sizeof expected, "LARGE : 0x%lX\n0x%lX - 0x%lX : 1000001 bytes\nTotal : 1000001 bytes\n",
             map.count ? (unsigned long)map.blocks[0].heading : 0ul, (unsigned long)block,
             (unsigned long)block + 1000001);
    ok(strcmp(map.text, expected) == 0, "one LARGE block");
    free(block);
    block = malloc(0);
    map = heapmap_read();
    snprintf(expected, sizeof expected, "TINY : 0x%lX\n0x%lX - 0x%lX : 0 bytes\nTotal : 0 bytes\n",
             map.count ? (unsigned long)map.blocks[0].heading : 0ul, (unsigned long)block, (unsigned long)block);
    ok(strcmp(map.text, expected) == 0, "a block of size 0: start = end");
    free(block);
    map = heapmap_read();
    ok(strcmp(map.text, "Total : 0 bytes\n") == 0, "empty again");
}

static void one_of_each_kind(void) {
    char *tiny = malloc(1), *tiny_limit = malloc(1024), *small = malloc(1025), *small_limit = malloc(65536);
    char *large = malloc(65537), *second = malloc(1 << 20);
    struct heapmap map = heapmap_read();
    ok(well_formed(&map) && map.count == own_blocks + 6, "six blocks");
    static const size_t sizes[] = {1, 1024, 1025, 65536, 65537, 1 << 20};
    static const enum kind kinds[] = {TINY, TINY, SMALL, SMALL, LARGE, LARGE};
    char *blocks[] = {tiny, tiny_limit, small, small_limit, large, second};
    for (int i = 0; i < 6; i++) {
        const struct shown *entry = heapmap_find(&map, (uintptr_t)blocks[i]);
        ok(entry && entry->size == sizes[i] && entry->kind == kinds[i], "%zu bytes: listed under %s", sizes[i],
           kind_names[kinds[i]]);
        if (entry && kinds[i] != LARGE)
            ok((entry->heading & ((512 << 10) - 1)) == 0 && entry->start - entry->heading < 8 << 20,
               "its heading is the start of a zone that holds it");
        else if (entry)
            ok(entry->heading % 4096 == 0 && entry->start - entry->heading < 4096,
               "its heading is its mapping's start");
        free(blocks[i]);
    }
}

/* The size shown is the one last asked for, by whichever call; the capacity does not matter. */
static void sizes_are_exact(void) {
    int exact = 1;
    for (size_t size = 0; size <= 5000; size++) {
        void *block = malloc(size);
        if (size % 64 == 0 || size < 300) {
            struct heapmap map = heapmap_read();
            exact &= well_formed(&map) && map.count == own_blocks + 1 && heapmap_shows(&map, block, size);
        }
        free(block);
    }
    ok(exact, "malloc: exact from 0 to 5000 bytes");

    char *aligned = NULL;
    void *blocks[] = {calloc(3, 7),        memalign(256, 10),        aligned_alloc(4096, 33), NULL,
                      valloc(5),           reallocarray(NULL, 7, 9), calloc(1000, 77),        memalign(1 << 20, 70000),
                      memalign(1 << 17, 3)};
    static const size_t sizes[] = {21, 10, 33, 99, 5, 63, 77000, 70000, 3};
    if (posix_memalign((void **)&aligned, 64, 99) == 0)
        blocks[3] = aligned;
    struct heapmap map = heapmap_read();
    exact = well_formed(&map) && map.count == own_blocks + 9;
    for (int i = 0; i < 9; i++) {
        if (!heapmap_shows(&map, blocks[i], sizes[i])) {
            diag("block %d, of %zu bytes, is not listed so", i, sizes[i]);
            exact = 0;
        }
        free(blocks[i]);
    }
    ok(exact, "calloc, memalign, aligned_alloc, posix_memalign, valloc, reallocarray: exact");
}

/* Every size to every size: whether it moves or not, the new size is shown, and only it. */
static void resized_sizes_are_exact(void) {
    static const size_t sizes[] = {1, 16, 17, 100, 500, 1024, 1025, 3000, 3001, 65000, 65537, 200000, 199999, 1000000};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    int exact = 1;
    for (int from = 0; from < SIZES; from++) {
        for (int to = 0; to < SIZES; to++) {
            void *block = realloc(malloc(sizes[from]), sizes[to]);
            struct heapmap map = heapmap_read();
            if (!well_formed(&map) || map.count != own_blocks + 1 || !heapmap_shows(&map, block, sizes[to])) {
                diag("realloc from %zu to %zu: %s", sizes[from], sizes[to], map.text);
                exact = 0;
            }
            free(block);
        }
    }
    ok(exact, "realloc from each size to each: exact");
    void *block = malloc(3000);
    for (size_t size = 3000; size >= 8; size -= 7) {
        block = realloc(block, size);
        struct heapmap map = heapmap_read();
        exact &= map.count == own_blocks + 1 && heapmap_shows(&map, block, size);
    }
    free(block);
    ok(exact, "realloc downwards in small steps: exact");
}

/* A random heap against a model of it: same set, same sizes, same total. */
static void against_a_model(struct rng *rng) {
    enum { SLOTS = 4000 };
    static struct {
        void *block;
        size_t size;
    } slots[SLOTS];
    int same = 1, formed = 1;
    for (int round = 0; round < 20; round++) {
        for (int step = 0; step < SLOTS; step++) {
            size_t i = rng_between(rng, 0, SLOTS - 1);
            size_t size = rng_size(rng);
            switch (rng_between(rng, 0, 3)) {
            case 0:
                free(slots[i].block);
                slots[i].block = NULL;
                break;
            case 1:
                slots[i].block = realloc(slots[i].block, size + 1);
                slots[i].size = size + 1;
                break;
            default:
                free(slots[i].block);
                slots[i].block = malloc(size);
                slots[i].size = size;
            }
        }
        struct heapmap map = heapmap_read();
        size_t count = 0, total = 0;
        for (int i = 0; i < SLOTS; i++) {
            if (slots[i].block) {
                count++;
                total += slots[i].size;
                same &= heapmap_shows(&map, slots[i].block, slots[i].size);
            }
        }
        formed &= well_formed(&map);
        same &= map.count == own_blocks + count && map.total == own_bytes + total;
    }
    ok(formed, "20 random heaps: well-formed");
    ok(same, "20 random heaps: the same blocks, sizes and total as the model's");
    for (int i = 0; i < SLOTS; i++)
        free(slots[i].block);
}

/* ---------------------------------------------------------------------------------- all arenas merged */
enum { THREADS = 16, PER_THREAD = 500 };

static void *held_by[THREADS][PER_THREAD];
static size_t size_of[THREADS][PER_THREAD];
static pthread_barrier_t filled, shown;
static uint64_t seed;

static void *fill_and_wait(void *argument) {
    size_t thread = (size_t)(uintptr_t)argument;
    struct rng rng = rng_stream(seed, 100 + thread);
    for (int i = 0; i < PER_THREAD; i++)
        held_by[thread][i] = malloc(size_of[thread][i] = rng_size(&rng));
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&shown);
    return NULL;
}

static void arenas_are_merged(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&filled, NULL, THREADS + 1);
    pthread_barrier_init(&shown, NULL, THREADS + 1);
    for (size_t t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, fill_and_wait, (void *)t);
    pthread_barrier_wait(&filled);
    struct heapmap map = heapmap_read();
    int listed = 1;
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < PER_THREAD; i++)
            listed &= heapmap_shows(&map, held_by[t][i], size_of[t][i]);
    ok(well_formed(&map), "the blocks of %d threads: one list in address order", THREADS);
    ok(listed, "each of them listed with its size");
    pthread_barrier_wait(&shown);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    map = heapmap_read();
    listed = well_formed(&map);
    for (int t = 0; t < THREADS; t++) {
        for (int i = 0; i < PER_THREAD; i++) {
            listed &= heapmap_shows(&map, held_by[t][i], size_of[t][i]);
            free(held_by[t][i]);
        }
    }
    ok(listed, "and still after their threads have ended");
    map = heapmap_read();
    listed = well_formed(&map);
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < PER_THREAD; i++)
            listed &= !heapmap_find(&map, (uintptr_t)held_by[t][i]);
    ok(listed, "none once they are freed by another thread");
}

static void leaves_errno_and_bad_output_alone(void) {
    errno = 4321;
    heapmap_read();
    ok(errno == 4321, "errno is unchanged");
    int out = dup(STDOUT_FILENO);
    close(STDOUT_FILENO);
    errno = 4321;
    show_alloc_mem();
    int after = errno;
    dup2(out, STDOUT_FILENO);
    close(out);
    ok(after == 4321, "without a standard output it returns, errno unchanged");
}

int main(void) {
    empty_heap();
    seed = random_seed();
    struct rng rng = rng_stream(seed, 0);
    if (own_blocks == 0)
        by_the_letter();
    one_of_each_kind();
    sizes_are_exact();
    resized_sizes_are_exact();
    against_a_model(&rng);
    arenas_are_merged();
    leaves_errno_and_bad_output_alone();
    return tap_done();
}
