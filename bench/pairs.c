/*
 * What a malloc costs, in a few shapes of use: one shape per process, so that none inherits another's heap
 * and each has a peak RSS of its own. Linked with no allocator: the one that is preloaded is measured, and
 * named in the output after what /proc/self/maps says of the address of malloc, so that a preload that failed
 * cannot pass for a result.
 *
 *     pairs SHAPE [--seconds S | --pairs N]      pairs --list
 *
 * One line of key=value comes out. `time` is in nanoseconds per malloc+free pair (per process for `start-up`;
 * `scaling` gives a ratio): wall time where two threads wait for each other, CPU time elsewhere, which on a
 * busy machine is what the wall clock would say on an idle one. `others` is the percentage of the CPUs that
 * other processes had meanwhile. scripts/bench runs all shapes for all allocators.
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK = 10000, /* pairs between two looks at the clock: tens of microseconds */
    OUT = 1000,    /* blocks out at once in `out-back` */
    SLOTS = 10000, /* blocks out at once in `random` and `scaling`, per thread */
    SMALLEST = 16, /* random sizes: from here */
    LARGEST = 527, /* to here */
    BATCH = 64,    /* blocks that change threads at a time */
    RING = 16,     /* batches between the two threads at most */
    THREADS = 2,
    CACHE_LINE = 128 /* two lines: adjacent ones are fetched together */
};

static _Noreturn void die(const char *what) {
    fprintf(stderr, "pairs: %s\n", what);
    exit(1);
}

/* ---------------------------------------------------------------------------------- clocks, in seconds */

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds_used(int who) {
    struct rusage used;
    getrusage(who, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static double wall(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

static double thread_cpu(void) {
    return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

static double children_cpu(void) {
    return seconds_used(RUSAGE_CHILDREN);
}

/* CPU time of all other processes. */
static double others_cpu(void) {
    unsigned long long user, nice, system, idle, wait, irq, softirq, steal;
    FILE *file = fopen("/proc/stat", "r");
    if (!file || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq,
                        &softirq, &steal) != 8)
        die("cannot read /proc/stat");
    fclose(file);
    return (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK) -
           seconds_used(RUSAGE_SELF) - seconds_used(RUSAGE_CHILDREN);
}

/* ------------------------------------------------------------------------------ what malloc is asked for */

/* Writes to the block, as every caller of malloc does; volatile, so that no compiler drops block and pair. */
static void *touched(void *block) {
    if (!block)
        die("malloc returned NULL");
    *(volatile char *)block = 1;
    return block;
}

/* Knuth's MMIX generator: one multiplication, so that it weighs little beside the pair. */
static uint64_t random_next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state;
}

static size_t random_size(uint64_t r) {
    return SMALLEST + (r >> 20) % (LARGEST - SMALLEST + 1);
}

/* ----------------------------------------------------- shapes of one thread, a chunk of pairs at a time */

static uint64_t chunk_of_size(size_t size) {
    for (int i = 0; i < CHUNK; i++)
        free(touched(malloc(size)));
    return CHUNK;
}

static uint64_t chunk_pair(void) {
    return chunk_of_size(64);
}

static uint64_t chunk_large_128k(void) {
    return chunk_of_size(128 << 10);
}

static uint64_t chunk_large_1m(void) {
    return chunk_of_size(1 << 20);
}

static uint64_t chunk_out_back(void) {
    static void *out[OUT];
    for (int round = 0; round < CHUNK / OUT; round++) {
        for (int i = 0; i < OUT; i++)
            out[i] = touched(malloc(64));
        for (int i = 0; i < OUT; i++)
            free(out[i]);
    }
    return CHUNK;
}

struct slots {
    _Alignas(CACHE_LINE) void *block[SLOTS];
    uint64_t random;
};

static struct slots slots[THREADS];
static size_t slot_count = SLOTS; /* fewer where memory is short */

static void slots_replace(struct slots *s, int times) {
    for (int i = 0; i < times; i++) {
        uint64_t r = random_next(&s->random);
        void **slot = &s->block[(r >> 32) * slot_count >> 32];
        free(*slot);
        *slot = touched(malloc(random_size(r)));
    }
}

/* Fills the slots and replaces them some times over, so that what is measured is the long run. */
static void slots_fill(struct slots *s) {
    s->random = (uint64_t)(s - slots) + 1;
    for (size_t i = 0; i < slot_count; i++)
        s->block[i] = touched(malloc(random_size(random_next(&s->random))));
    slots_replace(s, 4 * SLOTS);
}

static void slots_empty(struct slots *s) {
    for (size_t i = 0; i < slot_count; i++)
        free(s->block[i]);
}

static uint64_t chunk_random(void) {
    if (!slots[0].random)
        slots_fill(&slots[0]);
    slots_replace(&slots[0], CHUNK);
    return CHUNK;
}

/* ---------------------------------------------------------------- start-up: a program that does nothing */

static const char NOTHING[] = "--nothing";

static uint64_t chunk_start_up(void) {
    extern char **environ;
    char *const argv[] = {"pairs", (char *)NOTHING, NULL};
    pid_t child;
    int status;
    if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, environ) != 0)
        die("cannot start /proc/self/exe");
    if (waitpid(child, &status, 0) != child || status != 0)
        die("the program that does nothing failed");
    return 1;
}

/* Runs chunks for so many seconds, or so many pairs if that is not 0, and gives nanoseconds per pair. */
static double run_chunks(uint64_t (*chunk)(void), double (*timer)(void), double seconds, uint64_t pairs) {
    chunk(); /* warm */
    uint64_t done = 0;
    double start = timer(), elapsed;
    do {
        done += chunk();
        elapsed = timer() - start;
    } while (pairs ? done < pairs : elapsed < seconds);
    return elapsed * 1e9 / (double)done;
}

/* --------------------------------------------- scaling: threads that have nothing to do with each other */

struct worker {
    pthread_t thread;
    struct slots *slots;
    pthread_barrier_t *start;
    double seconds, pairs_per_second;
};

static void *worker_run(void *argument) {
    struct worker *w = argument;
    slots_fill(w->slots);
    pthread_barrier_wait(w->start);
    uint64_t done = 0;
    double start = wall(), elapsed;
    do {
        slots_replace(w->slots, CHUNK);
        done += CHUNK;
        elapsed = wall() - start;
    } while (elapsed < w->seconds);
    w->pairs_per_second = (double)done / elapsed;
    slots_empty(w->slots);
    return NULL;
}

static double throughput(unsigned threads, double seconds) {
    struct worker worker[THREADS];
    pthread_barrier_t start;
    double sum = 0;
    pthread_barrier_init(&start, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        worker[i] = (struct worker){.slots = &slots[i], .start = &start, .seconds = seconds};
        if (pthread_create(&worker[i].thread, NULL, worker_run, &worker[i]) != 0)
            die("cannot start a thread");
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(worker[i].thread, NULL);
        sum += worker[i].pairs_per_second;
    }
    pthread_barrier_destroy(&start);
    return sum;
}

static double run_scaling(double seconds) {
    double one = throughput(1, seconds);
    return throughput(THREADS, seconds) / one;
}

/* -------------------------------------------------- cross-thread: one thread allocates, the other frees */

/*
 * One producer, one consumer: a slot of `batch` belongs to the producer while it is outside [taken, given),
 * to the consumer while it is inside. Two atomic words move per BATCH blocks, so that the queue costs next to
 * nothing.
 */
static struct {
    _Alignas(CACHE_LINE) atomic_size_t given;
    _Alignas(CACHE_LINE) atomic_size_t taken;
    _Alignas(CACHE_LINE) atomic_int ended;
    _Alignas(CACHE_LINE) void *batch[RING][BATCH];
} ring;

/* Between two looks at the ring: at first nothing, then lets others have the CPU; there may be only one. */
static void pause_once(unsigned *waited) {
    if (++*waited > 64)
        sched_yield();
}

static void *consumer_run(void *unused) {
    (void)unused;
    size_t taken = 0;
    for (;;) {
        unsigned waited = 0;
        while (atomic_load_explicit(&ring.given, memory_order_acquire) == taken) {
            if (atomic_load_explicit(&ring.ended, memory_order_acquire) &&
                atomic_load_explicit(&ring.given, memory_order_acquire) == taken)
                return NULL;
            pause_once(&waited);
        }
        void **batch = ring.batch[taken % RING];
        for (int i = 0; i < BATCH; i++)
            free(batch[i]);
        atomic_store_explicit(&ring.taken, ++taken, memory_order_release);
    }
}

static double run_cross_thread(double seconds) {
    pthread_t consumer;
    if (pthread_create(&consumer, NULL, consumer_run, NULL) != 0)
        die("cannot start a thread");
    uint64_t random = 1;
    size_t given = 0;
    double start = wall();
    do {
        for (size_t end = given + CHUNK / BATCH; given < end;) {
            unsigned waited = 0;
            while (given - atomic_load_explicit(&ring.taken, memory_order_acquire) == RING)
                pause_once(&waited);
            void **batch = ring.batch[given % RING];
            for (int i = 0; i < BATCH; i++)
                batch[i] = touched(malloc(random_size(random_next(&random))));
            atomic_store_explicit(&ring.given, ++given, memory_order_release);
        }
    } while (wall() - start < seconds);
    atomic_store_explicit(&ring.ended, 1, memory_order_release);
    pthread_join(consumer, NULL);
    return (wall() - start) * 1e9 / (double)(given * BATCH);
}

/* ------------------------------------------------------------------------------------------- the shapes */

static const struct shape {
    const char *name, *what;
    uint64_t (*chunk)(void);       /* either a chunk of pairs, to be timed, */
    double (*run)(double seconds); /* or a function that times by itself */
    double (*clock)(void);         /* wall, or CPU time of some kind */
    unsigned sets;                 /* sets of slots that it fills */
    size_t live;                   /* bytes live at once beside those, at most */
} shapes[] = {
    {
        .name = "pair",
        .what = "64 bytes, freed at once",
        .chunk = chunk_pair,
        .clock = thread_cpu,
        .live = 64,
    },
    {
        .name = "out-back",
        .what = "1,000 of 64 bytes out, then back",
        .chunk = chunk_out_back,
        .clock = thread_cpu,
        .live = OUT * 64,
    },
    {
        .name = "random",
        .what = "10,000 slots of 16..527 bytes, replaced at random",
        .chunk = chunk_random,
        .clock = thread_cpu,
        .sets = 1,
    },
    {
        .name = "cross-thread",
        .what = "one thread allocates 16..527 bytes, the other frees",
        .run = run_cross_thread,
        .clock = wall,
        .live = sizeof ring.batch / sizeof(void *) * LARGEST,
    },
    {
        .name = "scaling",
        .what = "throughput of two threads at `random`, over one's",
        .run = run_scaling,
        .clock = wall,
        .sets = THREADS,
    },
    {
        .name = "large-128k",
        .what = "128 KiB, freed at once",
        .chunk = chunk_large_128k,
        .clock = thread_cpu,
        .live = 128 << 10,
    },
    {
        .name = "large-1m",
        .what = "1 MiB, freed at once",
        .chunk = chunk_large_1m,
        .clock = thread_cpu,
        .live = 1 << 20,
    },
    {
        .name = "start-up",
        .what = "exec of a program that does nothing",
        .chunk = chunk_start_up,
        .clock = children_cpu,
    },
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* ------------------------------------------------------------------ what the kernel says of the process */

/* The number of KiB that stands after `key` in a file of /proc. */
static size_t proc_kib(const char *path, const char *key) {
    char line[256];
    size_t kib = 0;
    int found = 0;
    FILE *file = fopen(path, "r");
    while (file && !found && fgets(line, sizeof line, file))
        found = strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), ": %zu kB", &kib) == 1;
    if (!found)
        die("cannot read /proc");
    fclose(file);
    return kib;
}

/* The file that is mapped at `address`, into path[size]. */
static void mapped_file(uintptr_t address, char *path, size_t size) {
    char line[4096 + 128];
    uintptr_t start, end;
    FILE *file = fopen("/proc/self/maps", "r");
    path[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        char *name = strchr(line, '/');
        if (!name || sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end) != 2 || address < start || address >= end)
            continue;
        name[strcspn(name, "\n")] = '\0';
        snprintf(path, size, "%s", name);
    }
    if (!path[0])
        die("malloc lies in no mapped file");
    fclose(file);
}

static int usage(void) {
    fputs("usage: pairs SHAPE [--seconds S | --pairs N]\n       pairs --list\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], NOTHING) == 0)
        return 0;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < SHAPES; i++)
            printf("%s\t%s\n", shapes[i].name, shapes[i].what);
        return 0;
    }
    const struct shape *shape = shapes;
    while (argc > 1 && shape < shapes + SHAPES && strcmp(argv[1], shape->name) != 0)
        shape++;
    double seconds = 0.4;
    uint64_t pairs = 0;
    if (argc == 4 && strcmp(argv[2], "--seconds") == 0)
        seconds = strtod(argv[3], NULL);
    else if (argc == 4 && strcmp(argv[2], "--pairs") == 0)
        pairs = strtoull(argv[3], NULL, 10);
    else if (argc != 2)
        return usage();
    if (shape == shapes + SHAPES || seconds <= 0 || (pairs && !shape->chunk))
        return usage();

    /* Never more live than a quarter of the memory there is. */
    size_t bound = proc_kib("/proc/meminfo", "MemAvailable") / 4 * 1024;
    while (slot_count > 1 && shape->sets * slot_count * LARGEST > bound)
        slot_count /= 2;
    size_t live = shape->live + shape->sets * slot_count * LARGEST;
    if (live > bound)
        die("too little memory is available");

    double start = wall(), others = others_cpu();
    double time = shape->chunk ? run_chunks(shape->chunk, shape->clock, seconds, pairs) : shape->run(seconds);
    others = (others_cpu() - others) / (wall() - start) / (double)sysconf(_SC_NPROCESSORS_ONLN);

    char path[4096];
    mapped_file((uintptr_t)dlsym(RTLD_DEFAULT, "malloc"), path, sizeof path);
    printf("shape=%s time=%.3f clock=%s others=%.0f rss_kib=%zu live=%zu malloc=%s\n", shape->name, time,
           shape->clock == wall ? "wall" : "cpu", others > 0 ? 100 * others : 0, proc_kib("/proc/self/status", "VmHWM"),
           live, path);
    return 0;
}
