/*
 * show_alloc_mem holds nothing while it writes: into a full pipe whose reader, a thread of the same process, allocates;
 * with one arena, so that both need its lock, and with several. And a write that a signal interrupts goes on.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>

enum { BLOCKS = 6000, LARGE_BLOCKS = BLOCKS / 60, KEPT = 40000 };

static int pipe_ends[2];
static atomic_size_t lines_read;

/* Reads little at a time, and before each read takes blocks that it keeps: sooner or later no cache has any left. */
static void *read_and_allocate(void *argument) {
    static void *kept[KEPT];
    size_t count = 0;
    char chunk[256];
    ssize_t length;
    do {
        for (size_t i = 0; i < 30 && count < KEPT; i++)
            kept[count++] = malloc(i == 29 ? 70000 : (i + 1) * 50);
        length = read(pipe_ends[0], chunk, sizeof chunk);
        for (ssize_t i = 0; i < length; i++)
            atomic_fetch_add(&lines_read, chunk[i] == '\n');
    } while (length > 0);
    while (count > 0)
        free(kept[--count]);
    return argument;
}

/* Puts a full pipe in standard output's place, calls `show`, and counts what arrives. */
static void into_a_full_pipe(void (*show)(void)) {
    static void *blocks[BLOCKS];
    pthread_t reader;
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(i % 60 == 59 ? 70000 + i : 32 + i % 50);
    check(pipe(pipe_ends) == 0 && fcntl(pipe_ends[1], F_SETPIPE_SZ, 4096) >= 0, "no pipe of one page");
    int out = dup(STDOUT_FILENO);
    dup2(pipe_ends[1], STDOUT_FILENO);
    close(pipe_ends[1]);
    check(pthread_create(&reader, NULL, read_and_allocate, NULL) == 0, "no thread");
    show();
    dup2(out, STDOUT_FILENO);
    pthread_join(reader, NULL);
    /* A line for each block, a heading for each LARGE one and each zone, and the total. */
    check(atomic_load(&lines_read) >= BLOCKS + LARGE_BLOCKS + 2, "only %zu lines arrived", atomic_load(&lines_read));
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    expect_silence();
}

static void in_peace(void) {
    into_a_full_pipe(show_alloc_mem);
}

/* ------------------------------------------------------------------------------------------- interrupted */
static pthread_t writer;
static atomic_size_t interruptions;

static void note(int signal) {
    (void)signal;
    atomic_fetch_add(&interruptions, 1);
}

static void *interrupt(void *stop) {
    const struct timespec pause = {.tv_nsec = 200000};
    while (!atomic_load((atomic_int *)stop)) {
        pthread_kill(writer, SIGUSR1);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void show_interrupted(void) {
    struct sigaction action = {.sa_handler = note}; /* no SA_RESTART: write(2) returns early */
    atomic_int stop = 0;
    pthread_t interrupter;
    sigaction(SIGUSR1, &action, NULL);
    writer = pthread_self();
    check(pthread_create(&interrupter, NULL, interrupt, &stop) == 0, "no thread");
    size_t before;
    do {
        before = atomic_load(&interruptions);
        show_alloc_mem();
    } while (atomic_load(&interruptions) == before); /* the other thread may start late */
    atomic_store(&stop, 1);
    pthread_join(interrupter, NULL);
}

static void interrupted(void) {
    into_a_full_pipe(show_interrupted);
}

static const struct test_case cases[] = {
    {"into a full pipe whose reader allocates", in_peace},
    {"into a full pipe, interrupted by signals", interrupted},
};

int main(int argc, char **argv) {
    static const char *const arenas[][2] = {{"CADASTRE_ARENAS=1", NULL}, {"CADASTRE_ARENAS=8", NULL}};
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(arenas); i++) {
        diag("%s", arenas[i][0]);
        for (size_t j = 0; j < COUNT(cases); j++)
            ok_case(cases[j].name, arenas[i], NULL);
    }
    return tap_done();
}
