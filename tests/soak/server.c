/*
 * A server's days, one after another: each cycle has the same phases, with the same work in each. After every round of
 * a phase, while all threads rest, memory is sampled; in the end the samples are judged. scripts/soak runs it for
 * minutes or hours.
 *
 *   --seconds N   for about so long, and twelve cycles at the least (30)
 *   --mib N       with about so much live memory at the most (64)
 *   --csv PATH    writes the samples there
 *   --plant WHAT  does what must be found: leak, pins (single blocks that keep slabs), mappings, retained
 */
#include "soak/judge.h"
#include "soak/load.h"

#include <malloc.h>
#include <sys/mman.h>

enum { ROUNDS = 4, THREADS_MAX = 16 };

/* In hundredths of what there is at the most. */
static const struct phase {
    const char *name;
    size_t threads, sessions, cache, large_in, requests;
} phases[] = {
    {"morning", 4, 50, 50, 200, 100}, {"noon", 8, 100, 100, 100, 100}, {"peak", THREADS_MAX, 100, 100, 15, 100},
    {"evening", 4, 50, 60, 200, 100}, {"night", 1, 5, 10, 0, 40},      {"idle", 1, 5, 10, 0, 0},
};

enum { PHASES = sizeof phases / sizeof *phases };

static const char *names[PHASES];

static struct {
    size_t seconds, mib;
    const char *csv, *plant;
} options = {.seconds = 30, .mib = 64, .plant = ""};

static uint64_t seed;

static int is_planted(const char *what) {
    return strcmp(options.plant, what) == 0;
}

/* --------------------------------------------------------------------------------- the pool of threads */
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_wakes = PTHREAD_COND_INITIALIZER, pool_rests = PTHREAD_COND_INITIALIZER;
static size_t pool_size, pool_resting, pool_round; /* under pool_lock; resting: that have done this round */
static pthread_t pool[THREADS_MAX];
static _Atomic long requests_left;

static void *serve(void *argument) {
    size_t number = (size_t)(uintptr_t)argument;
    struct rng rng = rng_stream(seed, atomic_fetch_add(&tags, 1));
    pthread_mutex_lock(&pool_lock);
    for (size_t seen = pool_round;; seen = pool_round) {
        pool_resting++;
        pthread_cond_signal(&pool_rests);
        while (pool_round == seen && number < pool_size)
            pthread_cond_wait(&pool_wakes, &pool_lock);
        if (number >= pool_size)
            break;
        pthread_mutex_unlock(&pool_lock);
        while (atomic_fetch_sub(&requests_left, 1) > 0) {
            load_serve(&rng);
            if (is_planted("leak") && rng_between(&rng, 1, 10) == 1)
                memset(malloc(3000), 1, 3000);
        }
        pthread_mutex_lock(&pool_lock);
    }
    pool_resting--;
    pthread_mutex_unlock(&pool_lock);
    return NULL;
}

/* With so many threads from now on. */
static void pool_resize(size_t size) {
    pthread_mutex_lock(&pool_lock);
    size_t old = pool_size;
    pool_size = size;
    pthread_cond_broadcast(&pool_wakes);
    pthread_mutex_unlock(&pool_lock);
    for (size_t i = size; i < old; i++)
        pthread_join(pool[i], NULL);
    for (size_t i = old; i < size; i++)
        if (pthread_create(&pool[i], NULL, serve, (void *)i) != 0) {
            tap_print("Bail out! thread %zu does not start", i);
            _exit(2);
        }
}

static void pool_wait(void) {
    while (pool_resting < pool_size)
        pthread_cond_wait(&pool_rests, &pool_lock);
}

/* Has `requests` served, and waits for that. */
static void pool_serve(long requests) {
    pthread_mutex_lock(&pool_lock);
    pool_wait();
    requests_left = requests;
    pool_resting = 0;
    pool_round++;
    pthread_cond_broadcast(&pool_wakes);
    pool_wait();
    pthread_mutex_unlock(&pool_lock);
}

/* ------------------------------------------------------------------------------------------- the days */
static double seconds_since_start(void) {
    static struct timespec start;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (start.tv_sec == 0)
        start = now;
    return (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) * 1e-9;
}

/* Once a cycle. Of pins each has another class, or the slabs that the last one kept would do. */
static void plant(void) {
    enum { SLAB = 64 << 10, SLABS = 64, LEAST = 1100, STEP = 150, SIZES = 30, MAPPINGS_MORE = 400 };
    static void *blocks[SLABS * (SLAB / LEAST)];
    size_t size = LEAST + judge.cycles % SIZES * STEP, in_slab = SLAB / size;
    if (is_planted("pins")) {
        for (size_t i = 0; i < SLABS * in_slab; i++)
            blocks[i] = malloc(size);
        for (size_t i = 0; i < SLABS * in_slab; i++)
            if (i % in_slab != 0)
                free(blocks[i]);
    }
    if (is_planted("mappings"))
        for (size_t i = 0; i < MAPPINGS_MORE; i++)
            mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Longer runs have longer cycles, not ever more of them. */
static void run_phase(size_t number) {
    const struct phase *phase = &phases[number];
    size_t factor = 1 + options.seconds / 600;
    want.sessions = (sessions_max * phase->sessions + 99) / 100;
    want.cache_bytes = options.mib * MIB / 2 * phase->cache / 100 / SHARDS;
    want.large_in = phase->large_in;
    want.large_max = 100000 + options.mib * 16 * KIB;
    pool_resize(phase->threads);
    for (size_t round = 0; round < ROUNDS; round++) {
        if (phase->requests == 0)
            usleep((useconds_t)(50000 * factor));
        pool_serve((long)(options.mib * 80 * factor * phase->requests / 100));
        struct sample now = judge_sample(seconds_since_start(), number, phase->name);
        if (round == ROUNDS - 1 && strcmp(phase->name, "peak") == 0)
            diag("%4.0f s, cycle %zu: at its peak %zu MiB live, %zu resident, %zu retained, %zu mappings",
                 seconds_since_start(), judge.cycles, now.live / MIB, now.of[RESIDENT] / MIB, now.retained / MIB,
                 now.of[MAPPINGS]);
    }
}

static size_t live_blocks(void) {
    struct cadastre_stats stats;
    cadastre_stats(&stats, sizeof stats);
    return stats.live_blocks;
}

static int read_options(char **argument) {
    for (; *argument; argument += 2) {
        if (argument[1] == NULL)
            return 0;
        if (strcmp(*argument, "--seconds") == 0)
            options.seconds = strtoul(argument[1], NULL, 10);
        else if (strcmp(*argument, "--mib") == 0)
            options.mib = strtoul(argument[1], NULL, 10);
        else if (strcmp(*argument, "--csv") == 0)
            options.csv = argument[1];
        else if (strcmp(*argument, "--plant") == 0)
            options.plant = argument[1];
        else
            return 0;
    }
    return options.seconds > 0 && options.mib > 0;
}

int main(int argc, char **argv) {
    (void)argc;
    if (!read_options(argv + 1) || !judge_start(options.csv)) {
        tap_print("Bail out! cannot use these arguments (see tests/soak/server.c)");
        return 2;
    }
    options.mib = mem_bound(options.mib * MIB) / MIB;
    diag("%zu MiB live at the most", options.mib);
    seed = random_seed();
    /* A bound without what is learned of swings: that depends on the time that they take. */
    mallopt(M_TRIM_THRESHOLD, is_planted("retained") ? -1 : 16 << 20);
    for (size_t i = 0; i < PHASES; i++)
        names[i] = phases[i].name;

    size_t before = live_blocks();
    load_start(options.mib * 100);
    seconds_since_start();
    while (judge.cycles < CYCLES_MIN ||
           (seconds_since_start() < (double)options.seconds && judge.cycles < CYCLES_MAX)) {
        for (size_t i = 0; i < PHASES; i++)
            run_phase(i);
        plant();
        judge.cycles++;
    }
    pool_resize(0);
    load_stop();
    judge_pass_verdict(names, PHASES);
    ok(atomic_load(&wrong) == 0, "contents: nobody's were changed");
    /* The C library keeps a block for each of the stacks that it keeps. */
    size_t after = live_blocks();
    ok(after <= before + THREADS_MAX, "all that was taken is given back: %zu blocks live before, %zu after", before,
       after);
    ok(cadastre_check() == 0, "and the heap is whole");
    return tap_done();
}
