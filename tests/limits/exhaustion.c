/*
 * At the very end of memory (RLIMIT_AS): every name refuses with ENOMEM, what is held stays as it is, shrinking never
 * fails, free, show_alloc_mem, reports, fork and thread starts do not crash; and with memory back all works again.
 */
#include "misuse/guard.h"

#include "limits/memory.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

enum { UNTOUCHED = 4321 };

static void limit_address_space(void) {
    struct rlimit limit = {.rlim_cur = 160 * MIB, .rlim_max = 160 * MIB};
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        _exit(126);
}

/* The blocks that fill memory, chained through their first bytes. */
static void *filling;

/* Takes every block that can be had, from the largest to the smallest: after it no size is left. Last, what has a page
 * of its own where pages are large. */
static void fill_memory(void) {
    static const size_t sizes[] = {8 << 20, 1 << 20, 100000, 65536, 20000, 5000, 1025, 1024, 512, 100, 64, 48, 32, 16};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *block;
        while ((block = malloc(sizes[i]))) {
            *(void **)block = filling;
            filling = block;
        }
        check(errno == ENOMEM, "errno %d at the end of memory", errno);
    }
    void *block;
    while ((block = valloc(sizeof filling))) {
        *(void **)block = filling;
        filling = block;
    }
}

static void empty_memory(void) {
    while (filling) {
        void *next = *(void **)filling;
        free(filling);
        filling = next;
    }
}

#define refuses(call)                                                                                                  \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        void *got = (call);                                                                                            \
        check(!got && errno == ENOMEM, "%s gave %p, errno %d", #call, got, errno);                                     \
    } while (0)

static void every_name_refuses(void) {
    guard_set();
    fill_memory();
    static const size_t sizes[] = {40000, 100000, 10 << 20};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t size = sizes[i];
        void *result = &result;
        refuses(malloc(size));
        refuses(calloc(1, size));
        refuses(realloc(NULL, size));
        refuses(reallocarray(NULL, 1, size));
        refuses(memalign(64, size));
        refuses(aligned_alloc(4096, size));
        refuses(valloc(size));
        refuses(pvalloc(size));
        refuses(memalign(1 << 20, size));
        errno = UNTOUCHED;
        check(posix_memalign(&result, 64, size) == ENOMEM && result == &result && errno == UNTOUCHED,
              "posix_memalign at the end of memory");
    }
    empty_memory();
    guard_check();
}

static const size_t sizes[] = {1, 16, 100, 1000, 1024, 1025, 5000, 40000, 65536, 65537, 200000, 3 << 20};

/* Each size to each smaller one, with nothing left to move to. */
static void shrinking_never_fails(void) {
    static unsigned char *blocks[COUNT(sizes)][COUNT(sizes)];
    for (size_t from = 0; from < COUNT(sizes); from++)
        for (size_t to = 0; to <= from; to++) {
            blocks[from][to] = malloc(sizes[from]);
            pattern_write(blocks[from][to], sizes[from], from);
        }
    for (size_t to = COUNT(sizes); to-- > 0;)
        for (size_t from = COUNT(sizes); from-- > to;) {
            unsigned char head[64];
            fill_memory(); /* again: shrinking gives memory back */
            size_t kept = sizes[to] < sizeof head ? sizes[to] : sizeof head;
            memcpy(head, blocks[from][to], kept);
            errno = UNTOUCHED;
            unsigned char *block = realloc(blocks[from][to], sizes[to]);
            check(block && errno == UNTOUCHED, "realloc from %zu to %zu failed", sizes[from], sizes[to]);
            check(memcmp(block, head, kept) == 0, "realloc from %zu to %zu lost contents", sizes[from], sizes[to]);
            blocks[from][to] = block;
        }
    empty_memory();
    for (size_t from = 0; from < COUNT(sizes); from++)
        for (size_t to = 0; to <= from; to++)
            free(blocks[from][to]);
    expect_silence();
}

static void growing_that_fails_changes_nothing(void) {
    static unsigned char *blocks[COUNT(sizes)];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        blocks[i] = malloc(sizes[i]);
        pattern_write(blocks[i], sizes[i], i);
    }
    fill_memory();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        refuses(realloc(blocks[i], 50 << 20));
        refuses(reallocarray(blocks[i], 1 << 10, 50 << 10));
        check(pattern_holds(blocks[i], sizes[i], i), "%zu bytes: changed by a realloc that failed", sizes[i]);
        check(malloc_usable_size(blocks[i]) >= sizes[i], "%zu bytes: no longer live", sizes[i]);
    }
    empty_memory();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        blocks[i] = realloc(blocks[i], 5 << 20);
        check(blocks[i] && pattern_holds(blocks[i], sizes[i] < 256 ? sizes[i] : 256, i),
              "no growth after memory is back");
        free(blocks[i]);
    }
    expect_silence();
}

/* What one block gives back, another of its size gets; and the whole comes and goes several times. */
static void freed_memory_is_had_again(void) {
    size_t had = 0;
    for (int round = 0; round < 4; round++) {
        void *block = malloc(3 << 20);
        fill_memory();
        for (int i = 0; i < 100; i++) {
            free(block);
            block = malloc(3 << 20);
            check(block, "3 MiB freed, and not to be had again");
        }
        size_t bytes = 0;
        for (void *at = filling; at; at = *(void **)at)
            bytes += malloc_usable_size(at);
        check(bytes >= had, "round %d: %zu bytes; before it were more than %zu", round, bytes, had);
        had = bytes - bytes / 10;
        empty_memory();
        free(block);
    }
    diag("RLIMIT_AS 160 MiB: at least %zu MiB had in each of 4 rounds", had / MIB);
    unsigned char *zeros = calloc(1, 20 << 20);
    check(zeros, "no 20 MiB after all was freed");
    for (size_t i = 0; i < 20 << 20; i++)
        check(zeros[i] == 0, "calloc gave a byte that is not 0");
    free(zeros);
}

/* The register and the reports need no memory. */
static void register_and_reports(void) {
    char *block = malloc(42);
    fill_memory();
    struct heapmap map = heapmap_read();
    check(!map.error[0], "show_alloc_mem: %s", map.error);
    check(heapmap_shows(&map, block, 42), "a live block is not shown");
    for (void *at = filling; at; at = *(void **)at)
        check(heapmap_find(&map, (uintptr_t)at), "a filling block is not shown");
    free(opaque(block + 16));
    expect_report("free(%p): not the start of a block: 16 bytes into a live block of 42 bytes at %p, arena #",
                  (void *)(block + 16), (void *)block);
    empty_memory();
    free(block);
    free(opaque(block));
    expect_report("free(%p): double free: *", (void *)block);
}

static void *allocate_a_little(void *argument) {
    (void)argument;
    for (int i = 0; i < 100; i++)
        free(malloc((size_t)i * 100));
    return NULL;
}

static void threads_and_forks(void) {
    pthread_t thread;
    fill_memory();
    if (pthread_create(&thread, NULL, allocate_a_little, NULL) == 0)
        pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0) {
        if (malloc(10 << 20))
            _exit(1);
        empty_memory();
        void *block = malloc(10 << 20);
        memset(block, 1, 10 << 20);
        free(block);
        _exit(0);
    }
    int status = -1;
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child forked at the end of memory: %d",
          status);
    empty_memory();
    check(pthread_create(&thread, NULL, allocate_a_little, NULL) == 0, "no thread after memory is back");
    pthread_join(thread, NULL);
    expect_silence();
}

static const struct test_case cases[] = {
    {"every name refuses with ENOMEM", every_name_refuses},
    {"shrinking never fails", shrinking_never_fails},
    {"growing that fails leaves the block as it was", growing_that_fails_changes_nothing},
    {"what is freed can be had again", freed_memory_is_had_again},
    {"show_alloc_mem and reports work", register_and_reports},
    {"thread starts and forks do not crash", threads_and_forks},
};

int main(int argc, char **argv) {
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(cases); i++)
        ok_case(cases[i].name, NULL, limit_address_space);
    return tap_done();
}
