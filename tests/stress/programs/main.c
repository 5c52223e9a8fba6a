/*
 * The stress program: scenarios that drive the library from many threads and verify what it gives and tells.
 * scripts/stress builds it in each variant of the library and runs it.
 */
#include "stress.h"

#include "limits/memory.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>

struct stress stress = {.threads = 8, .seconds = 2};

const struct scenario scenarios[] = {
    {"random", "every function, on blocks of one's own and on shared ones", run_random, {NULL}},
    {"one-arena", "the same with one arena for all", run_random, {"CADASTRE_ARENAS=1"}},
    {"pairs", "two threads free what the other took", run_pairs, {NULL}},
    {"ring", "each thread frees what the one before it took", run_ring, {NULL}},
    {"many-to-one", "one thread frees what all others took", run_many_to_one, {NULL}},
    {"one-to-many", "all threads free what one took", run_one_to_many, {NULL}},
    {"only-frees", "half of the threads free what the other half took, and take nothing", run_only_frees, {NULL}},
    {"births", "threads live for a moment, and leave blocks to others", run_births, {NULL}},
    {"observers", "views, statistics, options and malloc_trim meanwhile", run_observers, {NULL}},
    {"debugging",
     "the same in the debugging modes",
     run_observers,
     {"CADASTRE_CANARIES=1", "CADASTRE_SCRIBBLE=1", "CADASTRE_QUARANTINE=256K", "CADASTRE_HISTORY=1000",
      "CADASTRE_STACKS=8", "CADASTRE_GUARD=edges", "CADASTRE_CHECK_EACH=2000"}},
    {"forks", "forks from a busy process", run_forks, {NULL}},
    {"large", "LARGE against LARGE", run_large, {NULL}},
    {"wrong-frees", "wrong frees among right ones", run_wrong_frees, {NULL}},
#ifndef CADASTRE_SANITIZED
    {"pressure", "memory runs out for all threads at once", run_pressure, {NULL}},
#endif
    {"register", "what cadastre_walk tells is what models of all threads know", run_register, {NULL}},
    {.name = NULL},
};

static const char *const usage =
    "usage: stress [--seed N] [--threads N] [--seconds N] SCENARIO\n"
    "Runs one scenario. Ends with 0 when all held; else says what did not, and how to run it again.\n"
    "\n"
    "  --seed N      what the threads do; by default the clock's\n"
    "  --threads N   1 to 256 (8)\n"
    "  --seconds N   may be a fraction (2)\n"
    "  --list        the scenarios, and what each is\n"
    "  --help        this text\n";

/* ---------------------------------------------------------------------------------------------------- running */
static const struct scenario *scenario;
static int output; /* standard output is the library's */
static atomic_bool over;
static struct worker workers[THREADS_MAX];

bool goes_on(void) {
    return !atomic_load_explicit(&over, memory_order_relaxed);
}

static void print(int fd, const char *format, va_list arguments) {
    char line[512];
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    length = length < (int)sizeof line - 1 ? length : (int)sizeof line - 2;
    line[length] = '\n';
    if (write(fd, line, (size_t)length + 1) < 0)
        _exit(3);
}

void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print(output, format, arguments);
    va_end(arguments);
}

void fail(const char *format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say("FAILED: %s: %s", scenario->name, text);
    _exit(1);
}

static void (*body)(struct worker *worker);

static void *run_body(void *argument) {
    body(argument);
    return NULL;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Ends the run when its time is over. A thread, since the calling one may have something to do. */
static void *keep_time(void *argument) {
    double end = now() + stress.seconds;
    (void)argument;
    while (now() < end) {
        double left = end - now();
        struct timespec rest = {.tv_nsec = left < 0.01 ? 1000000 : 10000000};
        nanosleep(&rest, NULL);
    }
    atomic_store(&over, true);
    return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument) {
    int error = pthread_create(thread, NULL, run, argument);
    must(error == 0, "no thread: %s", strerror(error));
}

void run_threads(void (*threads_body)(struct worker *), void (*beside)(struct worker *)) {
    pthread_t timer;
    body = threads_body;
    start(&timer, keep_time, NULL);
    for (unsigned i = 0; i < stress.threads; i++) {
        workers[i].index = i;
        workers[i].rng = rng_stream(stress.seed, i);
        start(&workers[i].thread, run_body, &workers[i]);
    }
    struct worker *own = &workers[stress.threads];
    *own = (struct worker){.index = stress.threads, .rng = rng_stream(stress.seed, stress.threads)};
    if (beside != NULL)
        beside(own);
    for (unsigned i = 0; i < stress.threads; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_join(timer, NULL);
}

/* ------------------------------------------------------------------------------------------------ the whole of it */
static int count(void *blocks, const cadastre_block *block) {
    (void)block;
    ++*(size_t *)blocks;
    return 0;
}

static size_t live_blocks(void) {
    size_t blocks = 0;
    must(cadastre_walk(count, &blocks) == 0, "the walk did not come to its end");
    return blocks;
}

void heap_must_be_valid(void) {
    int faults = cadastre_check();
    must(faults == 0, "cadastre_check finds %d faults", faults);
}

static void run_scenario(void) {
    double begin = now();
    size_t before = live_blocks();
    size_t operations = 0;
    scenario->run();
    for (unsigned i = 0; i <= stress.threads; i++)
        operations += workers[i].operations;
    heap_must_be_valid();
    /* Where the C library uses our malloc, it keeps what a thread that it may start again needs. */
    size_t live = live_blocks();
    struct cadastre_stats stats;
    must(cadastre_stats(&stats, sizeof stats) == 0 && stats.live_blocks == live, "%llu blocks are counted, %zu visited",
         (unsigned long long)stats.live_blocks, live);
    size_t left = live - before;
    must(left <= 2 * stress.threads, "%zu blocks are left that nobody has", left);
    say("%s: %u threads, %.1f s, %zu operations: ok", scenario->name, stress.threads, now() - begin, operations);
}

static _Noreturn void refuse(const char *what) {
    fprintf(stderr, "stress: %s; see stress --help\n", what);
    exit(2);
}

/* Options are read before main: with those of the scenario the program starts itself once more. By its name, since
 * valgrind knows it by no other. */
static void start_with_options(char **argv) {
    static char self[4096];
    bool is_set = true;
    for (size_t i = 0; scenario->environment[i] != NULL; i++) {
        char name[64];
        const char *equals = strchr(scenario->environment[i], '=');
        snprintf(name, sizeof name, "%.*s", (int)(equals - scenario->environment[i]), scenario->environment[i]);
        const char *now_set = getenv(name);
        is_set = is_set && now_set != NULL && strcmp(now_set, equals + 1) == 0;
        setenv(name, equals + 1, 1);
    }
    if (is_set)
        return;
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0)
        execv(self, argv);
    refuse("cannot start itself again");
}

static void list(void) {
    for (size_t i = 0; scenarios[i].name != NULL; i++)
        printf("%-12s %s\n", scenarios[i].name, scenarios[i].what);
}

static void choose(const char *name) {
    for (scenario = scenarios; scenario->name != NULL; scenario++)
        if (strcmp(scenario->name, name) == 0)
            return;
    refuse("no such scenario");
}

static void read_arguments(int argc, char **argv) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},    {"threads", required_argument, NULL, 't'},
        {"seconds", required_argument, NULL, 'n'}, {"list", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    stress.seed = (uint64_t)time.tv_nsec * 2654435761u ^ (uint64_t)time.tv_sec;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            stress.seed = strtoull(optarg, NULL, 0);
            break;
        case 't':
            stress.threads = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            stress.seconds = strtod(optarg, NULL);
            break;
        case 'l':
            list();
            exit(0);
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            exit(2);
        }
    }
    if (stress.threads < 1 || stress.threads >= THREADS_MAX || !(stress.seconds >= 0))
        refuse("a number is out of bounds");
    if (optind != argc - 1)
        refuse("one scenario is wanted");
    choose(argv[optind]);
}

int main(int argc, char **argv) {
    read_arguments(argc, argv);
    start_with_options(argv);
    stress.bytes = mem_bound(256 * MIB);
    output = dup(STDOUT_FILENO);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    must(output >= 0 && null >= 0 && dup2(null, STDOUT_FILENO) >= 0, "no descriptor: %s", strerror(errno));
    must(cadastre_option_set("ABORT", "1") == 0, "misuse cannot be made fatal");
    say("%s: --seed %llu --threads %u --seconds %g, at most %zu MiB of blocks", scenario->name,
        (unsigned long long)stress.seed, stress.threads, stress.seconds, stress.bytes / MIB);
    run_scenario();
    return 0;
}

/* ThreadSanitizer ends the child of a busy process unless it is told not to; and after a failure it would go on about
 * the threads that were not joined. */
#ifdef CADASTRE_SANITIZED
const char *__tsan_default_options(void);

const char *__tsan_default_options(void) {
    return "die_after_fork=0:halt_on_error=1:report_thread_leaks=0";
}
#endif
