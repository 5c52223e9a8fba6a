/*
 * Programs under RLIMIT_AS and RLIMIT_DATA: small limits still leave room for blocks and for thread stacks, the end
 * of memory is NULL with ENOMEM, and what is freed can be had again. Each case is a process of its own, so that the
 * limit stands before the library starts.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <pthread.h>
#include <sys/resource.h>

static void limit(int resource, size_t bytes) {
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};
    if (setrlimit((__rlimit_resource_t)resource, &limit) != 0)
        _exit(126);
}

static void address_space_16_mib(void) {
    limit(RLIMIT_AS, 16 * MIB);
}

static void address_space_64_mib(void) {
    limit(RLIMIT_STACK, 8 * MIB); /* what a thread's stack takes by default */
    limit(RLIMIT_AS, 64 * MIB);
}

static void address_space_128_mib(void) {
    limit(RLIMIT_AS, 128 * MIB);
}

static void address_space_512_mib(void) {
    limit(RLIMIT_AS, 512 * MIB);
}

static void data_64_mib(void) {
    limit(RLIMIT_DATA, 64 * MIB);
}

/* A chain of blocks through their first bytes: the test itself needs no memory. */
struct link {
    struct link *next;
    size_t size;
};

static struct link *push(struct link *chain, void *block, size_t size) {
    struct link *link = block;
    pattern_write(block, size, size);
    link->next = chain;
    link->size = size;
    return link;
}

static void release(struct link *chain) {
    while (chain) {
        struct link *next = chain->next;
        size_t size = chain->size, head = sizeof *chain;
        for (size_t i = head; i < size; i = pattern_next(i, size))
            check(((unsigned char *)chain)[i] == pattern_at(size, i), "a block of %zu bytes changed", size);
        free(chain);
        chain = next;
    }
}

/* Takes blocks of one size until there are none, or `bound` bytes are taken; returns the bytes had. */
static size_t take_all(struct link **chain, size_t size, size_t bound) {
    size_t bytes = 0;
    while (bytes < bound) {
        errno = 0;
        void *block = malloc(size);
        if (!block) {
            check(errno == ENOMEM, "errno %d at the end of memory", errno);
            break;
        }
        *chain = push(*chain, block, size);
        bytes += size;
    }
    return bytes;
}

static void four_mib_of_64_bytes(void) {
    size_t had = 0;
    for (int round = 0; round < 3; round++) {
        struct link *chain = NULL;
        size_t bytes = take_all(&chain, 64, SIZE_MAX);
        diag("RLIMIT_AS 16 MiB: %zu KiB of 64-byte blocks", bytes / KIB);
        check(bytes >= 4 * MIB, "only %zu bytes", bytes);
        check(bytes >= had, "round %d: %zu bytes, %zu before", round, bytes, had);
        had = bytes - bytes / 10; /* what was freed can be had again, but for a tenth */
        release(chain);
    }
    /* Memory that was TINY serves any size. */
    static const size_t sizes[] = {16, 1000, 5000, 65536, 100000, MIB};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *block = malloc(sizes[i]);
        check(block, "%zu bytes cannot be had once 64-byte blocks are freed", sizes[i]);
        memset(block, 1, sizes[i]);
        free(block);
    }
}

static void every_size_in_turn(void) {
    static const size_t sizes[] = {16, 300, 1024, 3000, 20000, 65536, 80000, 300000};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            struct link *chain = NULL;
            size_t bytes = take_all(&chain, sizes[i], SIZE_MAX);
            check(bytes >= MIB, "round %d: only %zu bytes of %zu-byte blocks", round, bytes, sizes[i]);
            release(chain);
        }
    }
}

/* Each thread has allocated of every category when the next one starts, and holds on to it until all have. */
static pthread_barrier_t one_more, all;

static void *use_every_category(void *argument) {
    static const size_t sizes[] = {64, 1000, 5000, 40000, 100000};
    struct link *chain = NULL;
    (void)argument;
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            void *block = malloc(sizes[i]);
            check(block, "no memory for %zu bytes in a thread", sizes[i]);
            chain = push(chain, block, sizes[i]);
        }
        if (round == 0) {
            pthread_barrier_wait(&one_more);
            pthread_barrier_wait(&all);
        }
        release(chain);
        chain = NULL;
    }
    return NULL;
}

static void four_threads(void) {
    pthread_t threads[4];
    void *before[] = {malloc(100), malloc(5000), malloc(100000)}; /* the heap is in use before they start */
    pthread_barrier_init(&one_more, NULL, 2);
    pthread_barrier_init(&all, NULL, 5);
    for (int i = 0; i < 4; i++) {
        int error = pthread_create(&threads[i], NULL, use_every_category, NULL);
        check(error == 0, "thread %d of 4 does not start: %s", i + 1, strerror(error));
        pthread_barrier_wait(&one_more);
    }
    pthread_barrier_wait(&all);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < COUNT(before); i++)
        free(before[i]);
}

/* A mixed heap until nothing is left: at least half of the limit can be had, twice. */
static void mixed_until_the_end(size_t limited) {
    size_t bound = mem_bound(limited);
    for (uint64_t round = 0; round < 2; round++) {
        struct rng rng = rng_stream(1, round);
        struct link *chain = NULL;
        size_t bytes = 0;
        while (bytes < bound) {
            size_t size = rng_size(&rng) + sizeof *chain;
            errno = 0;
            void *block = malloc(size);
            if (!block) {
                check(errno == ENOMEM, "errno %d at the end of memory", errno);
                break;
            }
            chain = push(chain, block, size);
            bytes += size;
        }
        diag("limit %zu MiB: %zu MiB of mixed blocks", limited / MIB, bytes / MIB);
        check(bytes >= bound / 2, "only %zu bytes", bytes);
        release(chain);
    }
}

static void half_of_512_mib(void) {
    mixed_until_the_end(512 * MIB);
}

static void half_of_data(void) {
    mixed_until_the_end(64 * MIB);
}

/* Threads reach the end of memory together; none crashes, and each can go on once they have freed. */
static void *take_and_release(void *argument) {
    size_t size = (size_t)(uintptr_t)argument;
    for (int round = 0; round < 3; round++) {
        struct link *chain = NULL;
        take_all(&chain, size, SIZE_MAX);
        release(chain);
        pthread_barrier_wait(&all);
        void *block = malloc(size);
        check(block, "no %zu bytes after everybody freed", size);
        free(block);
        pthread_barrier_wait(&all);
    }
    return NULL;
}

static void threads_at_the_end(void) {
    static const size_t sizes[] = {64, 700, 5000, 60000, 200000, 32};
    pthread_t threads[COUNT(sizes)];
    pthread_barrier_init(&all, NULL, COUNT(sizes));
    for (size_t i = 0; i < COUNT(sizes); i++)
        check(pthread_create(&threads[i], NULL, take_and_release, (void *)sizes[i]) == 0, "thread %zu", i);
    for (size_t i = 0; i < COUNT(sizes); i++)
        pthread_join(threads[i], NULL);
}

/* A limit that comes when zones of full size are mapped already: their idle ends are given back for it. */
static void limit_at_run_time(void) {
    void *first[] = {malloc(100), malloc(8000)};
    limit(RLIMIT_AS, proc_bytes("/proc/self/status", "VmSize:") + MIB);
    for (size_t size = 2 * MIB; size <= 8 * MIB; size += 2 * MIB) {
        unsigned char *block = malloc(size);
        check(block, "%zu MiB are refused", size / MIB);
        memset(block, 1, size);
        free(block);
    }
    free(first[0]);
    free(first[1]);
}

static const struct set_case cases[] = {
    {{"RLIMIT_AS 16 MiB: at least 4 MiB of 64-byte blocks, again and again", four_mib_of_64_bytes},
     address_space_16_mib,
     NULL},
    {{"RLIMIT_AS 64 MiB: every size in turn, all of memory each time", every_size_in_turn}, address_space_64_mib, NULL},
    {{"RLIMIT_AS 64 MiB: 4 threads of default stack", four_threads}, address_space_64_mib, NULL},
    {{"RLIMIT_AS 512 MiB: half of it in mixed blocks", half_of_512_mib}, address_space_512_mib, NULL},
    {{"RLIMIT_AS 128 MiB: threads at the end of memory", threads_at_the_end}, address_space_128_mib, NULL},
    {{"RLIMIT_DATA 64 MiB: half of it in mixed blocks", half_of_data}, data_64_mib, NULL},
    {{"RLIMIT_DATA 64 MiB: 4 threads", four_threads}, data_64_mib, NULL},
    {{"RLIMIT_DATA 64 MiB: every size in turn", every_size_in_turn}, data_64_mib, NULL},
    {{"no limit: 4 threads", four_threads}, NULL, NULL},
    {{"RLIMIT_AS a MiB above what is mapped, set at run time: 8 MiB", limit_at_run_time}, NULL, NULL},
};

MAIN_OF_SET_CASES(cases)
