/*
 * What a program and a thread pay for their allocator before they do anything: scripts/bench --start.
 *
 *     start [--allocator NAME LIBRARY VERSION | --lacking PACKAGE]...
 *     start --memory | --threads         what it runs under each of them, besides `nothing`
 *
 * Starting a process is `nothing`, which lies beside this program, from its start until it has been waited for: rounds
 * over all allocators, each in an order that is drawn anew, as a process starts more slowly after one that has left a
 * lot to clear up. What is resident the process itself asks the kernel: ru_maxrss is only near it. Of threads one after
 * the other is started, takes a block, frees it, and is joined.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ALLOCATORS_MAX = 16, ROUNDS = 500, ASKED = 15, THREADS = 500, THREADS_BEFORE = 10, SIZE = 100 };

static struct allocator {
    const char *name;
    const char *library; /* empty: the C library's own */
    double us[ROUNDS];
    double kib[ASKED];
    double thread_us[ASKED];
    double thread_faults[ASKED];
    long faults;
} allocators[ALLOCATORS_MAX];
static size_t count;

static _Noreturn void die(const char *what, const char *of) {
    fprintf(stderr, "start: %s: %s\n", what, of);
    exit(1);
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* ------------------------------------------------------------------------------------------- what it runs */

/* Into a buffer that is there already. */
static int say_memory(void) {
    static char text[4096];
    const int file = open("/proc/self/smaps_rollup", O_RDONLY);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0)
        die("/proc/self/smaps_rollup", "cannot be read");
    const char *line = strstr(text, "\nRss:");
    printf("%s\n", line == NULL ? "" : line + strlen("\nRss:"));
    return 0;
}

static void *allocate_once(void *unused) {
    free(malloc(SIZE));
    return unused;
}

static void start_threads(int number) {
    pthread_t thread;
    for (int i = 0; i < number; i++)
        if (pthread_create(&thread, NULL, allocate_once, NULL) != 0 || pthread_join(thread, NULL) != 0)
            die("pthread_create", "no thread");
}

/* Time and page faults of one thread, and the file that malloc is in. */
static int say_threads(void) {
    struct rusage before;
    struct rusage after;
    Dl_info found;
    start_threads(THREADS_BEFORE);
    getrusage(RUSAGE_SELF, &before);
    const double start = now_us();
    start_threads(THREADS);
    const double end = now_us();
    getrusage(RUSAGE_SELF, &after);
    if (dladdr((void *)malloc, &found) == 0)
        die("dladdr", "malloc is nowhere");
    printf("%g %g %s\n", (end - start) / THREADS, (double)(after.ru_minflt - before.ru_minflt) / THREADS,
           found.dli_fname);
    return 0;
}

/* ------------------------------------------------------------------------------------------- running it */

/* Runs `program` with at most one argument under an allocator, and gives the time. What it prints is put in `said`, of
 * `size` bytes, if that is not NULL. */
static double run(struct allocator *allocator, const char *program, const char *argument, char *said, size_t size) {
    char *const arguments[] = {(char *)program, (char *)argument, NULL};
    posix_spawn_file_actions_t actions;
    struct rusage usage;
    pid_t child;
    int status;
    int ends[2];
    setenv("LD_PRELOAD", allocator->library, 1);
    posix_spawn_file_actions_init(&actions);
    if (said != NULL && (pipe(ends) != 0 || posix_spawn_file_actions_adddup2(&actions, ends[1], 1) != 0))
        die("pipe", "none");
    const double start = now_us();
    if (posix_spawn(&child, program, &actions, NULL, arguments, environ) != 0)
        die(program, "cannot be started");
    if (wait4(child, &status, 0, &usage) != child || status != 0)
        die(allocator->name, "a process under it failed");
    const double end = now_us();
    posix_spawn_file_actions_destroy(&actions);
    allocator->faults = usage.ru_minflt;
    if (said != NULL) {
        const ssize_t length = read(ends[0], said, size - 1);
        said[length < 0 ? 0 : length] = '\0';
        close(ends[0]);
        close(ends[1]);
    }
    return end - start;
}

/* What the process says of itself; and that a preload which failed does not pass for a result. */
static void ask(struct allocator *allocator, const char *self, int nth) {
    char said[4200];
    char file[4097] = "";
    run(allocator, self, "--memory", said, sizeof said);
    allocator->kib[nth] = atof(said);
    run(allocator, self, "--threads", said, sizeof said);
    sscanf(said, "%lg %lg %4096[^\n]", &allocator->thread_us[nth], &allocator->thread_faults[nth], file);
    if (*allocator->library != '\0' && strcmp(file, allocator->library) != 0)
        die(allocator->library, "cannot be preloaded");
}

static void shuffle(size_t *order) {
    for (size_t i = count; i > 1; i--) {
        const size_t other = (size_t)random() % i;
        const size_t last = order[i - 1];
        order[i - 1] = order[other];
        order[other] = last;
    }
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *numbers, size_t length) {
    qsort(numbers, length, sizeof *numbers, compare);
    return numbers[length / 2];
}

static void measure(const char *self) {
    char nothing[4200];
    size_t order[ALLOCATORS_MAX];
    snprintf(nothing, sizeof nothing, "%.*s/nothing", (int)(strrchr(self, '/') - self), self);
    for (int nth = 0; nth < ASKED; nth++)
        for (size_t i = 0; i < count; i++)
            ask(&allocators[i], self, nth);
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (int round = 0; round < ROUNDS; round++) {
        shuffle(order);
        for (size_t i = 0; i < count; i++)
            allocators[order[i]].us[round] = run(&allocators[order[i]], nothing, NULL, NULL, 0);
    }
}

/* Medians; `over` is what there is above the first, the C library's own. */
static void report(void) {
    double first_us = 0;
    double first_kib = 0;
    printf("\n%-12s%12s%8s%10s%8s%10s%8s%12s%8s\n", "", "process us", "over", "fastest", "faults", "RSS KiB", "over",
           "thread us", "faults");
    for (size_t i = 0; i < count; i++) {
        struct allocator *a = &allocators[i];
        const double us = median(a->us, ROUNDS);
        const double kib = median(a->kib, ASKED);
        first_us = i == 0 ? us : first_us;
        first_kib = i == 0 ? kib : first_kib;
        printf("%-12s%12.0f%+8.0f%10.0f%8ld%10.0f%+8.0f%12.1f%8.2f\n", a->name, us, us - first_us, a->us[0], a->faults,
               kib, kib - first_kib, median(a->thread_us, ASKED), median(a->thread_faults, ASKED));
    }
}

int main(int argc, char **argv) {
    char self[4096] = "";
    if (argc == 2 && strcmp(argv[1], "--memory") == 0)
        return say_memory();
    if (argc == 2 && strcmp(argv[1], "--threads") == 0)
        return say_threads();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--allocator") == 0 && i + 3 < argc && count < ALLOCATORS_MAX) {
            allocators[count++] = (struct allocator){.name = argv[i + 1], .library = argv[i + 2]};
            printf("%-12s%s\n", argv[i + 1], argv[i + 3]);
            i += 3;
        } else if (strcmp(argv[i], "--lacking") == 0 && i + 1 < argc) {
            printf("%s is not installed (scripts/bench --install)\n", argv[++i]);
        } else {
            die(argv[i], "not understood; it is scripts/bench --start that calls this program");
        }
    }
    if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0 || strrchr(self, '/') == NULL)
        die("/proc/self/exe", "cannot be read");
    fflush(stdout);
    measure(self);
    report();
    return 0;
}
