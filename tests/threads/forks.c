/*
 * 1,000 forks from a process whose threads allocate without pause, and as many from one whose threads are born, make
 * their first malloc, and end. Each child allocates, frees blocks of its own, of the parent's and of a thread that is
 * not there any more, starts a thread that does the same, and walks the heap now and then. Half of the forks are made
 * with one arena, so that vanished threads leave the child's own arena behind. A child that hangs is ended by its
 * alarm. Each case is a process of its own.
 */
#include "cadastre.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <pthread.h>

enum { THREADS = 4, FORKS = 500, FIXED = 100, SLOTS = 100, BURST = 120 };

static struct {
    unsigned char *block;
    size_t size;
} fixed[2][FIXED]; /* [0] by the main thread, [1] by a thread that vanishes in the child */

static uint64_t seed;
static atomic_int stop, ready;

static void make_fixed(size_t set) {
    struct rng rng = rng_stream(seed, 1000 + set);
    for (size_t i = 0; i < FIXED; i++) {
        fixed[set][i].size = rng_size(&rng);
        fixed[set][i].block = malloc(fixed[set][i].size);
        pattern_write(fixed[set][i].block, fixed[set][i].size, i);
    }
}

/* Random operations on blocks of this function's own; 1 if their contents held. */
static int operate(struct rng *rng, size_t steps) {
    unsigned char *blocks[SLOTS] = {NULL};
    size_t sizes[SLOTS] = {0};
    int hold = 1;
    for (size_t step = 0; step < steps; step++) {
        size_t i = rng_between(rng, 0, SLOTS - 1);
        hold &= pattern_holds(blocks[i], sizes[i], i);
        sizes[i] = rng_size(rng) + 1;
        if (step % 4 == 0) {
            blocks[i] = realloc(blocks[i], sizes[i]);
        } else {
            free(blocks[i]);
            blocks[i] = malloc(sizes[i]);
        }
        if (!blocks[i])
            return 0;
        pattern_write(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < SLOTS; i++)
        free(blocks[i]);
    return hold;
}

/* More blocks of one size than a thread's cache holds: all the way to the arena and back. 1 if contents held. */
static int burst(struct rng *rng) {
    unsigned char *blocks[BURST];
    size_t size = rng_between(rng, 3000, 20000);
    int hold = 1;
    for (size_t i = 0; i < BURST; i++) {
        blocks[i] = malloc(size);
        if (!blocks[i])
            return 0;
        memset(blocks[i], (int)i, 64);
    }
    for (size_t i = 0; i < BURST; i++) {
        hold &= blocks[i][0] == i && blocks[i][63] == i;
        free(blocks[i]);
    }
    return hold;
}

static void *work(void *number) {
    struct rng rng = rng_stream(seed, (uintptr_t)number);
    int hold = 1;
    if ((uintptr_t)number == 1)
        make_fixed(1);
    atomic_fetch_add(&ready, 1);
    while (!atomic_load(&stop))
        hold &= operate(&rng, 100) && burst(&rng) && burst(&rng);
    return hold ? NULL : &stop;
}

static void *work_in_child(void *argument) {
    struct rng rng = rng_stream(seed, (uintptr_t)argument);
    return operate(&rng, 100) && burst(&rng) ? NULL : &stop;
}

static int heap_can_be_walked(void) {
    if (!freopen("/dev/null", "w", stdout))
        return 0;
    show_alloc_mem();
    return 1;
}

static int child_of_a_child(struct rng *rng) {
    pid_t pid = fork();
    int status = -1;
    if (pid == 0)
        _exit(operate(rng, 100) && burst(rng) ? 0 : 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* What a child does; its exit status tells where it failed. */
static int child(size_t number) {
    struct rng rng = rng_stream(seed, 5000 + number);
    pthread_t thread;
    void *result = NULL;
    alarm(20);
    if (!operate(&rng, 100) || !burst(&rng))
        return 1;
    for (size_t set = 0; set < 2; set++) {
        for (size_t i = 0; i < FIXED; i++) {
            if (!pattern_holds(fixed[set][i].block, fixed[set][i].size, i))
                return 2;
            free(fixed[set][i].block);
        }
    }
    if (pthread_create(&thread, NULL, work_in_child, (void *)(9000 + number)) != 0)
        return 3;
    if (pthread_join(thread, &result) != 0 || result)
        return 4;
    if (number % 25 == 0 && !(heap_can_be_walked() && child_of_a_child(&rng)))
        return 5;
    return operate(&rng, 100) && burst(&rng) ? 0 : 6;
}

static void *be_born(void *argument) {
    struct rng rng = rng_stream(seed, (uintptr_t)argument);
    return operate(&rng, 5) ? NULL : &stop;
}

/* Makes threads, whose first malloc meets a fork now and then. */
static void *give_birth(void *number) {
    pthread_t thread;
    void *result = NULL;
    if ((uintptr_t)number == 1)
        make_fixed(1);
    atomic_fetch_add(&ready, 1);
    for (uintptr_t born = 1; !atomic_load(&stop) && !result; born++)
        if (pthread_create(&thread, NULL, be_born, (void *)((uintptr_t)number << 32 | born)) != 0 ||
            pthread_join(thread, &result) != 0)
            return &stop;
    return result;
}

static void fork_while(void *(*threads_do)(void *)) {
    pthread_t threads[THREADS];
    size_t failed = 0;
    seed = strtoull(getenv("SEED"), NULL, 0);
    make_fixed(0);
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, threads_do, (void *)(t + 1)) == 0, "no thread");
    while (atomic_load(&ready) < THREADS)
        usleep(1000);
    for (size_t number = 0; number < FORKS && failed < 3; number++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(child(number));
        int status = -1;
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
        if (status != 0) {
            diag("fork %zu: wait status 0x%x", number, status);
            failed++;
        }
    }
    atomic_store(&stop, 1);
    for (size_t t = 0; t < THREADS; t++) {
        void *result = NULL;
        pthread_join(threads[t], &result);
        check(!result, "contents did not hold in the parent");
    }
    for (size_t set = 0; set < 2; set++)
        for (size_t i = 0; i < FIXED; i++)
            check(pattern_holds(fixed[set][i].block, fixed[set][i].size, i), "a block of the parent's changed");
    check(failed == 0, "some children failed");
    expect_silence();
}

static void fork_while_busy(void) {
    fork_while(work);
}

static void fork_while_born(void) {
    fork_while(give_birth);
}

static const struct test_case cases[] = {
    {"500 forks from a process of 4 busy threads", fork_while_busy},
    {"500 forks from a process that makes threads all the time", fork_while_born},
};

int main(int argc, char **argv) {
    static const char *const arenas[][2] = {{"CADASTRE_ARENAS=1"}, {NULL}};
    char given[40];
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    snprintf(given, sizeof given, "%llu", (unsigned long long)random_seed());
    setenv("SEED", given, 1);
    for (size_t i = 0; i < COUNT(arenas); i++) {
        diag("%s", arenas[i][0] ? arenas[i][0] : "as many arenas as it chooses");
        for (size_t c = 0; c < COUNT(cases); c++)
            ok_case(cases[c].name, arenas[i], NULL);
    }
    return tap_done();
}
