/*
 * What looks at the whole heap, called by a debugger that has stopped the thread inside malloc under a lock: one line
 * that says so, no result, and the process goes on. A signal handler stands in for the debugger.
 */
#include "cadastre.h"
#include "misuse/guard.h"

#include <malloc.h>
#include <sys/time.h>

enum { IN_ARENA = 100, BEYOND = 100000 }; /* sizes: taken under an arena's lock, and under that of large blocks */

static FILE *discarded;

/* Each says whether its result is that of a call that was carried out, if that can be seen. */
enum result { NOTHING, FIGURES, NO_RESULT };

static enum result show(void) {
    show_alloc_mem();
    return NO_RESULT;
}

static enum result stats(void) {
    malloc_stats();
    return NO_RESULT;
}

static enum result info_to_stream(void) {
    return malloc_info(0, discarded) == 0 ? FIGURES : NOTHING;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static enum result info(void) {
    return mallinfo().arena > 0 ? FIGURES : NOTHING;
}
#pragma GCC diagnostic pop

static enum result info2(void) {
    return mallinfo2().arena > 0 ? FIGURES : NOTHING;
}

static enum result trim(void) {
    malloc_trim(0);
    return NO_RESULT;
}

/* ----------------------------------------------------------------------------------------------- the debugger */
static enum result (*asked)(void);
static volatile sig_atomic_t refused, wrong;

/* Asks until one call has been refused. What the others print is taken back. */
static void ask(int signal) {
    static const char refusal[] = "cadastre: ";
    char text[sizeof refusal - 1];
    (void)signal;
    if (refused)
        return;
    off_t errors = lseek(STDERR_FILENO, 0, SEEK_CUR), output = lseek(STDOUT_FILENO, 0, SEEK_CUR);
    enum result result = asked();
    if (pread(STDERR_FILENO, text, sizeof text, errors) == sizeof text && memcmp(text, refusal, sizeof text) == 0) {
        refused = 1;
        wrong = result == FIGURES || lseek(STDOUT_FILENO, 0, SEEK_CUR) != output;
    } else {
        wrong |= result == NOTHING || ftruncate(STDERR_FILENO, errors) != 0;
        lseek(STDERR_FILENO, errors, SEEK_SET);
        lseek(STDOUT_FILENO, output, SEEK_SET);
    }
}

/* Where a signal arrives is chance: goes on until one has arrived under a lock, or until the case's alarm. */
static void stop_inside_malloc(const char *name, enum result (*call)(void), size_t size) {
    static void *blocks[2000];
    struct sigaction action = {.sa_handler = ask};
    struct itimerval often = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}}, never = {0};
    int out = dup(STDOUT_FILENO), scratch = memfd_create("stdout", MFD_CLOEXEC);
    check(out >= 0 && scratch >= 0, "no descriptors");
    discarded = fopen("/dev/null", "w");
    check(discarded && setvbuf(discarded, NULL, _IONBF, 0) == 0, "no /dev/null");
    guard_set();

    dup2(scratch, STDOUT_FILENO);
    asked = call;
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    while (!refused) {
        for (size_t i = 0; i < COUNT(blocks); i++)
            blocks[i] = malloc(i % 2 ? size : BEYOND);
        for (size_t i = 0; i < COUNT(blocks); i++)
            free(blocks[i]);
    }
    setitimer(ITIMER_PROF, &never, NULL);
    dup2(out, STDOUT_FILENO);

    expect_report("%s: not now: this thread was stopped inside malloc or free; "
                  "let it leave (in gdb: finish) and ask again",
                  name);
    expect_silence();
    check(!wrong, "%s gave something when it was refused, or nothing when it was not", name);
    guard_check();
}

static void stop_for_show(void) {
    stop_inside_malloc("show_alloc_mem", show, IN_ARENA);
}

static void stop_for_stats(void) {
    stop_inside_malloc("malloc_stats", stats, IN_ARENA);
}

static void stop_for_info_to_stream(void) {
    stop_inside_malloc("malloc_info", info_to_stream, IN_ARENA);
}

static void stop_for_info(void) {
    stop_inside_malloc("mallinfo", info, IN_ARENA);
}

static void stop_for_info2(void) {
    stop_inside_malloc("mallinfo2", info2, IN_ARENA);
}

/* It takes blocks out of the thread's cache: without a lock to tell, the thread must not be at work there. */
static void stop_for_trim(void) {
    stop_inside_malloc("malloc_trim", trim, BEYOND);
}

/* --------------------------------------------------------------------------------------------------- after fork */
/* fork holds every lock; in the child each is given back in a way of its own. */
static void in_a_child(void) {
    guard_set();
    pid_t child = fork();
    if (child == 0) {
        check(info2() == FIGURES, "mallinfo2 was refused in a child");
        guard_check();
        _exit(0);
    }
    int status;
    check(waitpid(child, &status, 0) == child && status == 0, "the child ended with 0x%x", status);
    guard_check();
}

static const struct test_case cases[] = {
    {"show_alloc_mem, stopped inside malloc", stop_for_show},
    {"malloc_stats, stopped inside malloc", stop_for_stats},
    {"malloc_info, stopped inside malloc", stop_for_info_to_stream},
    {"mallinfo, stopped inside malloc", stop_for_info},
    {"mallinfo2, stopped inside malloc", stop_for_info2},
    {"malloc_trim, stopped inside malloc", stop_for_trim},
    {"a child of fork is inside nothing", in_a_child},
};

MAIN_OF_CASES(cases)
