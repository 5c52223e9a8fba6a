/*
 * What is done at exit does no harm: from a signal handler that interrupted malloc, with threads running in it, after
 * which the streams are flushed and their functions still use memory; and CADASTRE_RELEASE_AT_EXIT gives back what is
 * empty, and nothing else.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "threads/random.h"

#include <pthread.h>
#include <sys/time.h>

enum { SLOTS = 200, CHILDREN = 60 };

/* ------------------------------------------------------------------------------------------------- signals */
static void churn(uint64_t stream, size_t steps) {
    void *slots[SLOTS] = {NULL};
    struct rng rng = rng_stream(3, stream);
    for (size_t step = 0; step < steps; step++) {
        size_t i = rng_between(&rng, 0, SLOTS - 1);
        slots[i] = realloc(slots[i], rng_size(&rng) + 1);
        if (step % 3 == 0) {
            free(slots[i]);
            slots[i] = NULL;
        }
    }
    for (size_t i = 0; i < SLOTS; i++)
        free(slots[i]);
}

static void leaves(int signal) {
    (void)signal;
    exit(0);
}

static void is_interrupted(size_t number) {
    const struct itimerval soon = {.it_value = {.tv_usec = (suseconds_t)(200 + 137 * number)}};
    signal(SIGALRM, leaves);
    setitimer(ITIMER_REAL, &soon, NULL);
    for (;;)
        churn(number, 100000);
}

/* A child that hangs ends with this case, by the case's own alarm. */
static void from_a_handler(void) {
    for (size_t i = 0; i < CHILDREN; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0)
            is_interrupted(i);
        waitpid(pid, &status, 0);
        check(status == 0, "child %zu: status %d", i, status);
    }
}

/* ------------------------------------------------------------------------------------------------- threads */
static void *churns_for_ever(void *argument) {
    for (;;)
        churn((uint64_t)(uintptr_t)argument, 100000);
    return NULL;
}

static void start_threads(size_t count) {
    for (size_t i = 0; i < count; i++) {
        pthread_t thread;
        check(pthread_create(&thread, NULL, churns_for_ever, (void *)i) == 0, "no thread");
    }
}

static void leaves_threads(size_t number) {
    start_threads(8);
    churn(number + 100, 2000);
    exit(0);
}

static void with_threads(void) {
    for (size_t i = 0; i < 20; i++) {
        int status = forked(leaves_threads, i);
        check(status == 0, "child %zu: status %d", i, status);
    }
}

/* --------------------------------------------------------------------------------------------------- release */
static unsigned char *live_small, *live_large, *freed_large;

static int is_mapped(const void *address) {
    unsigned char resident;
    return mincore((void *)((uintptr_t)address & ~(uintptr_t)4095), 1, &resident) == 0;
}

/* What exit calls last of all: a stream is flushed, after every destructor, and ours. */
static ssize_t look(void *cookie, const char *bytes, size_t count) {
    (void)bytes;
    int released = cookie != NULL;
    int fails = 0;
    fails |= !pattern_holds(live_small, 1000, 1) || !pattern_holds(live_large, 200000, 2);
    fails |= is_mapped(freed_large) == released ? 2 : 0;
    for (size_t size = 1; size < 300000; size += size / 2 + 1) {
        unsigned char *block = malloc(size);
        pattern_write(block, size, 3);
        fails |= !block || !pattern_holds(block, size, 3) ? 4 : 0;
        free(block);
    }
    free(live_small);
    free(live_large);
    fails |= cadastre_check() != 0 ? 8 : 0;
    if (fails) {
        diag("after the end: 1 contents, 2 the freed span is %s, 4 malloc, 8 check: %d", released ? "there" : "gone",
             fails);
        _exit(1);
    }
    return (ssize_t)count;
}

static void look_at_the_end(int released) {
    FILE *stream = fopencookie(released ? &live_small : NULL, "w", (cookie_io_functions_t){.write = look});
    check(stream && fputs("not flushed yet", stream) >= 0, "no stream");
    live_small = malloc(1000);
    pattern_write(live_small, 1000, 1);
    live_large = malloc(200000);
    pattern_write(live_large, 200000, 2);
    freed_large = malloc(900000);
    memset(opaque(freed_large), 1, 900000);
    churn(1, 20000);
    free(freed_large);
    check(released || is_mapped(freed_large), "the span is not kept: nothing to see at the end");
}

static void released(void) {
    look_at_the_end(1);
}

static void kept(void) {
    look_at_the_end(0);
}

static void released_with_threads(void) {
    look_at_the_end(1);
    freed_large = NULL; /* where the threads have blocks by then */
    start_threads(4);
    churn(50, 20000);
}

/* Destructors use memory before; exit from one of them. */
static void *of_destructor;

__attribute__((destructor)) static void destroy(void) {
    if (of_destructor) {
        free(of_destructor);
        free(opaque(malloc(100)));
    }
}

static void destructors(void) {
    of_destructor = malloc(5000);
}

#define LEAKS    "CADASTRE_LEAKS=1"
#define RELEASES "CADASTRE_RELEASE_AT_EXIT=1"
#define NO_LEAK  "cadastre: leaks: 0 bytes in 0 blocks\n"

static const struct debug_case cases[] = {
    {{"from a handler", from_a_handler}, {LEAKS, RELEASES}, .errors = NULL},
    {{"from a handler, all modes", from_a_handler}, {LEAKS, RELEASES, ALL_MODES}, .errors = NULL},
    {{"with threads", with_threads}, {LEAKS, RELEASES}, .errors = "*cadastre: leaks: *"},
    {{"with threads, all modes", with_threads}, {LEAKS, RELEASES, ALL_MODES}, .errors = "*cadastre: leaks: *"},
    {{"kept", kept}, {NULL}, .errors = ""},
    {{"released", released}, {RELEASES}, .errors = ""},
    {{"released, all modes", released}, {RELEASES, ALL_MODES}, .errors = ""},
    {{"released, with threads", released_with_threads}, {RELEASES}, .errors = ""},
    {{"destructors", destructors}, {LEAKS, RELEASES}, .errors = NO_LEAK},
    {{"destructors, all modes", destructors}, {LEAKS, RELEASES, ALL_MODES}, .errors = NO_LEAK},
};

MAIN_OF_DEBUG_CASES(cases)
