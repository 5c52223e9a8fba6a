/*
 * 1,000 forks from a process whose threads allocate without pause. Each child allocates, frees blocks of its own, of
 * the parent's and of a thread that is not there any more, starts a thread that does the same, and walks the heap. A
 * child that hangs is ended by its alarm.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>

enum { THREADS = 4, FORKS = 1000, FIXED = 100, SLOTS = 200 };

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
static int operate(struct rng *rng, size_t steps, atomic_int *until) {
    unsigned char *blocks[SLOTS] = {NULL};
    size_t sizes[SLOTS] = {0};
    int hold = 1;
    for (size_t step = 0; step < steps && !(until && atomic_load(until)); step++) {
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

static void *work(void *number) {
    struct rng rng = rng_stream(seed, (uintptr_t)number);
    if ((uintptr_t)number == 1)
        make_fixed(1);
    atomic_fetch_add(&ready, 1);
    return operate(&rng, SIZE_MAX, &stop) ? NULL : &stop;
}

static void *work_in_child(void *argument) {
    struct rng rng = rng_stream(seed, (uintptr_t)argument);
    return operate(&rng, 100, NULL) ? NULL : &stop;
}

/* What a child does; its exit status tells where it failed. */
static int child(size_t number) {
    struct rng rng = rng_stream(seed, 5000 + number);
    pthread_t thread;
    void *result = NULL;
    alarm(30);
    if (!operate(&rng, 100, NULL))
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
    if (number % 50 == 0) {
        if (!freopen("/dev/null", "w", stdout))
            return 5;
        show_alloc_mem();
        /* A child of a child. */
        pid_t pid = fork();
        int status = -1;
        if (pid == 0)
            _exit(operate(&rng, 100, NULL) ? 0 : 6);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            return 7;
    }
    return operate(&rng, 100, NULL) ? 0 : 8;
}

int main(void) {
    pthread_t threads[THREADS];
    int failed = 0;
    seed = random_seed();
    alarm(120);
    make_fixed(0);
    for (size_t t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, work, (void *)(t + 1));
    while (atomic_load(&ready) < THREADS)
        usleep(1000);
    for (size_t number = 0; number < FORKS && failed < 5; number++) {
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
    int hold = 1;
    for (size_t t = 0; t < THREADS; t++) {
        void *result = NULL;
        pthread_join(threads[t], &result);
        hold &= result == NULL;
    }
    for (size_t set = 0; set < 2; set++)
        for (size_t i = 0; i < FIXED; i++)
            hold &= pattern_holds(fixed[set][i].block, fixed[set][i].size, i);
    ok(failed == 0, "%d forks from a process of %d busy threads", FORKS, THREADS);
    ok(hold, "and the parent's blocks hold all the while");
    return tap_done();
}
