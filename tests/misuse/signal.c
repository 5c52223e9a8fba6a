/*
 * malloc in a signal handler that interrupted malloc is undefined (POSIX.1-2017, 2.4.3). When it comes upon a lock that
 * its own thread holds, that is one line and an abort, and not a process that hangs.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <sys/time.h>

enum { RUNS = 20 };

/* More than a thread keeps for itself, without a lock: of LARGE blocks, and of an arena's. */
static void allocate_large(int signal) {
    (void)signal;
    free(malloc(20 << 20));
}

static void allocate_small(int signal) {
    void *blocks[40];
    (void)signal;
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = malloc(30000);
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
}

static void interrupt(void (*allocate)(int)) {
    struct sigaction action = {.sa_handler = allocate};
    struct itimerval often = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}};
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    for (;;) /* until a signal arrives under the lock, which is a matter of milliseconds; or the case's alarm */
        allocate(0);
}

static void interrupted_large(void) {
    interrupt(allocate_large);
}

static void interrupted_small(void) {
    interrupt(allocate_small);
}

static const struct test_case cases[] = {
    {"a handler that interrupts malloc and calls it, LARGE blocks", interrupted_large},
    {"a handler that interrupts malloc and calls it, SMALL blocks", interrupted_small},
};

/* Where a signal arrives is chance; between any two instructions around a lock, it must not hang. What a hit that was
 * interrupted has mixed up before, as it may, is reported as wrong frees. */
static void aborts_each_time(const char *name) {
    /* The debug library may find before what the hit has mixed up. */
    const char *preload = getenv("LD_PRELOAD");
    int aborted = 1, with_assertions = preload && strstr(preload, "/debug/");
    for (int run = 0; run < RUNS && aborted; run++) {
        const struct outcome *outcome = run_case(name, NULL, NULL);
        aborted = WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == SIGABRT &&
                  (matches(outcome->errors, "*cadastre: malloc or free was called from a signal handler *\n") ||
                   (with_assertions && matches(outcome->errors, "*cadastre: assertion failed: *\n")));
        if (!aborted)
            diag("run %d: wait status 0x%x, standard error: %s", run, outcome->status, outcome->errors);
    }
    ok(aborted, "%s: one line and an abort, in each of %d runs", name, RUNS);
}

int main(int argc, char **argv) {
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(cases); i++)
        aborts_each_time(cases[i].name);
    return tap_done();
}
