/*
 * malloc in a signal handler that interrupted malloc is undefined (POSIX.1-2017, 2.4.3). When it comes upon a lock that
 * its own thread holds, that is one line and an abort, and not a process that hangs.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <sys/time.h>

enum { RUNS = 40 };

static void allocate(int signal) {
    (void)signal;
    free(malloc(20 << 20)); /* more than a thread keeps for itself, without a lock */
}

static void interrupted_by_itself(void) {
    struct sigaction action = {.sa_handler = allocate};
    struct itimerval often = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}};
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    for (;;) /* until a signal arrives under the lock, which is a matter of milliseconds; or the case's alarm */
        allocate(0);
}

static const struct test_case cases[] = {{"a handler that interrupts malloc and calls it", interrupted_by_itself}};

int main(int argc, char **argv) {
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    /* Where a signal arrives is chance; between any two instructions around a lock, it must not hang. */
    int aborted = 1;
    for (int run = 0; run < RUNS && aborted; run++) {
        const struct outcome *outcome = run_case(cases[0].name, NULL, NULL);
        aborted = WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == SIGABRT &&
                  matches(outcome->errors, "cadastre: malloc, free or fork was called from a signal handler *\n");
        if (!aborted)
            diag("run %d: wait status 0x%x, standard error: %s", run, outcome->status, outcome->errors);
    }
    ok(aborted, "%s: one line and an abort, in each of %d runs", cases[0].name, RUNS);
    return tap_done();
}
