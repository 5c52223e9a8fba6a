/*
 * malloc in a signal handler that interrupted malloc is undefined (POSIX.1-2017, 2.4.3). When it comes upon a lock that
 * its own thread holds, that is one line and an abort, and not a process that hangs.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <sys/time.h>

static void allocate(int signal) {
    (void)signal;
    free(malloc(200000));
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
    const struct outcome *outcome = run_case(cases[0].name, NULL, NULL);
    ok(WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == SIGABRT, "%s: aborts", cases[0].name);
    if (!ok(matches(outcome->errors, "cadastre: malloc or free was called from a signal handler *\n"), "with a line"))
        diag("standard error: %s", outcome->errors);
    return tap_done();
}
