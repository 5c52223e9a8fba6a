/*
 * Every mode at once, with 16 threads that free each other's blocks: contents hold, nothing is reported that is not
 * so, what is not freed is found at exit and no more; a child of fork can go on, whatever the threads were doing; and
 * of the threads that free one block at once, one frees it and the others are told.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "threads/random.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>

enum { THREADS = 16, SLOTS = 1000, STEPS = 5000 };

struct block {
    unsigned char *bytes;
    size_t size;
    uint64_t tag;
};

static struct {
    pthread_mutex_t mutex;
    struct block block;
} slots[SLOTS];

static atomic_int wrong;
static atomic_bool stopping;
static uint64_t seed;

static void set_up(void) {
    seed = random_seed();
    for (size_t i = 0; i < SLOTS; i++)
        pthread_mutex_init(&slots[i].mutex, NULL);
}

static struct block swap(size_t slot, struct block block) {
    pthread_mutex_lock(&slots[slot].mutex);
    struct block old = slots[slot].block;
    slots[slot].block = block;
    pthread_mutex_unlock(&slots[slot].mutex);
    return old;
}

static void *take(struct rng *rng, size_t size) {
    switch (rng_between(rng, 0, 3)) {
    case 0:
        return calloc(1, size);
    case 1:
        return memalign((size_t)1 << rng_between(rng, 0, 12), size);
    default:
        return malloc(size);
    }
}

static void *exchanges(void *argument) {
    struct rng rng = rng_stream(seed, (uint64_t)(uintptr_t)argument);
    for (size_t step = 0; step < STEPS && !stopping; step++) {
        struct block mine = {.size = rng_size(&rng) / 4, .tag = rng_next(&rng)};
        mine.bytes = take(&rng, mine.size);
        wrong += !mine.bytes;
        pattern_write(mine.bytes, mine.size, mine.tag);
        struct block theirs = swap(rng_between(&rng, 0, SLOTS - 1), mine);
        wrong += theirs.bytes && !pattern_holds(theirs.bytes, theirs.size, theirs.tag);
        if (theirs.bytes && step % 4 == 0) {
            size_t size = theirs.size / 2 + 1;
            theirs.bytes = realloc(theirs.bytes, size);
            wrong += !pattern_holds(theirs.bytes, size < 256 && size < theirs.size ? size : 0, theirs.tag);
        }
        free(theirs.bytes);
        if (step % 1000 == 999)
            wrong += cadastre_check() != 0;
    }
    return NULL;
}

static void start(pthread_t *threads) {
    for (size_t i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, exchanges, (void *)i) == 0, "no thread");
}

static void join(pthread_t *threads) {
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void free_all(void) {
    for (size_t i = 0; i < SLOTS; i++) {
        struct block block = swap(i, (struct block){.bytes = NULL});
        wrong += block.bytes && !pattern_holds(block.bytes, block.size, block.tag);
        free(block.bytes);
    }
}

static void cross_frees(void) {
    pthread_t threads[THREADS];
    set_up();
    start(threads);
    join(threads);
    free_all();
    check(cadastre_check() == 0, "the heap is not whole");
    check(wrong == 0, "%d wrong results", wrong);
    malloc(777);
}

#define ONE_LEAK "cadastre: leak: 777 bytes in 1 block, *\ncadastre: leaks: 777 bytes in 1 block*\n"

/* A thread that vanished may have had a block out of its slot, and the slot's mutex. */
static void goes_on(size_t number) {
    struct rng rng = rng_stream(seed, 1000 + number);
    for (size_t i = 0; i < SLOTS; i++) {
        if (pthread_mutex_trylock(&slots[i].mutex) != 0)
            continue;
        struct block *block = &slots[i].block;
        check(!block->bytes || pattern_holds(block->bytes, block->size, block->tag), "a block changed");
        free(block->bytes);
    }
    for (size_t i = 0; i < 500; i++) {
        size_t size = rng_size(&rng);
        unsigned char *block = take(&rng, size);
        check(block, "no memory in the child");
        pattern_write(block, size, i);
        block = realloc(block, size + 1);
        check(pattern_holds(block, size < 256 ? size : 0, i), "a block changed");
        free(block);
    }
    check(cadastre_check() == 0, "the child's heap is not whole");
}

static void forks(void) {
    pthread_t threads[THREADS];
    set_up();
    start(threads);
    for (size_t i = 0; i < 30; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            alarm(30);
            goes_on(i);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        check(status == 0, "child %zu: status %d", i, status);
    }
    stopping = true;
    join(threads);
    free_all();
    check(wrong == 0, "%d wrong results", wrong);
}

/* --------------------------------------------------------------------------------------------- double frees */
enum { RACERS = 4 };

static void *_Atomic raced;
static atomic_uint rounds, round_number, finished;

static void *frees_with_others(void *argument) {
    (void)argument;
    for (unsigned i = 1; i <= rounds; i++) {
        while (round_number != i)
            sched_yield();
        free(opaque(raced));
        finished++;
    }
    return NULL;
}

/* The number of reports is in those that are printed: all of the first 32, then each 1,000th. */
static void at_once(size_t size, unsigned count) {
    rounds = count;
    pthread_t threads[RACERS];
    void *neighbour = size < 65536 ? malloc(size) : NULL; /* keeps the slab */
    check(fcntl(STDERR_FILENO, F_SETFL, O_APPEND) == 0, "lines of threads may overwrite each other");
    for (size_t i = 0; i < RACERS; i++)
        check(pthread_create(&threads[i], NULL, frees_with_others, NULL) == 0, "no thread");
    for (unsigned i = 1; i <= rounds; i++) {
        raced = malloc(size);
        finished = 0;
        round_number = i;
        while (finished != RACERS)
            sched_yield();
    }
    for (size_t i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    check(cadastre_check() == 0, "the heap is not whole");
    free(neighbour);
    size_t reports = 0;
    unsigned long last = 0;
    for (const char *line; (line = error_line()); error_taken(line)) {
        reports += matches(line, "cadastre: free(0x@): double free: *");
        if (strstr(line, " reports so far)"))
            last = strtoul(strrchr(line, '(') + 1, NULL, 10);
    }
    check(reports == 32 + (RACERS - 1) * count / 1000, "%zu reports, the last says %lu", reports, last);
    check(last == (RACERS - 1) * count, "%lu reports so far", last);
}

static void small_at_once(void) {
    at_once(42, 2000);
}

/* A canary as long as they come, so that it takes a while to look it over. */
static void long_canary_at_once(void) {
    at_once(28672 - 7, 4000);
}

/* The span of the first serves the others, with what is not worth cutting off. */
static void long_large_canary_at_once(void) {
    free(opaque(malloc(4400000)));
    at_once(4000000, 1000);
}

static void large_at_once(void) {
    at_once(100000, 2000);
}

#define LEAKS "CADASTRE_LEAKS=1"

static const struct debug_case cases[] = {
    {{"cross frees, all modes", cross_frees}, {LEAKS, ALL_MODES}, .errors = ONE_LEAK},
    {{"cross frees, scribbled", cross_frees}, {LEAKS, "CADASTRE_SCRIBBLE=1"}, .errors = ONE_LEAK},
    {{"cross frees, canaries", cross_frees},
     {LEAKS, "CADASTRE_CANARIES=1", "CADASTRE_CHECK_EACH=2000"},
     .errors = ONE_LEAK},
    {{"cross frees, quarantine", cross_frees}, {LEAKS, "CADASTRE_QUARANTINE=100K"}, .errors = ONE_LEAK},
    {{"cross frees, perturbed", cross_frees}, {LEAKS, "CADASTRE_PERTURB=7"}, .errors = ONE_LEAK},
    {{"cross frees, stacks and history", cross_frees},
     {LEAKS, "CADASTRE_STACKS=64", "CADASTRE_HISTORY=7"},
     .errors = ONE_LEAK},
    {{"forks, all modes", forks}, {ALL_MODES}, .errors = ""},
    {{"forks, checked as they go", forks}, {ALL_MODES, "CADASTRE_CHECK_EACH=100"}, .errors = ""},
    {{"frees at once", small_at_once}, {"CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"frees at once, long canary", long_canary_at_once}, {"CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"frees at once, LARGE, long canary", long_large_canary_at_once}, {"CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"frees at once, in quarantine", small_at_once}, {"CADASTRE_QUARANTINE=1M"}, .errors = NULL},
    {{"frees at once, LARGE", large_at_once}, {"CADASTRE_QUARANTINE=1M"}, .errors = NULL},
};

MAIN_OF_DEBUG_CASES(cases)
