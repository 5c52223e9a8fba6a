/*
 * Where the register may be asked for: on the smallest stack that a thread can have; and where it may not: in a signal
 * handler, or by a debugger, that has stopped the thread inside malloc. Then each call says so and does nothing.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/time.h>

static int nowhere;

static int visit(void *argument, const cadastre_block *block) {
    (void)block;
    ++*(size_t *)argument;
    return 0;
}

/* Its result. */
static int call_walk(void) {
    size_t visited = 0;
    return cadastre_walk(visit, &visited);
}

static int call_text(void) {
    struct cadastre_show what = {.size = sizeof what, .fd = nowhere, .hexdump = 100};
    return show_alloc_mem_ex(&what);
}

static int call_json(void) {
    struct cadastre_show what = {.size = sizeof what, .fd = nowhere, .hexdump = 100, .format = CADASTRE_JSON};
    return show_alloc_mem_ex(&what);
}

static int call_map(void) {
    return show_alloc_mem_map(nowhere);
}

static int (*const calls[])(void) = {call_walk, call_text, call_json, call_map};
static const char *const names[] = {"cadastre_walk", "show_alloc_mem_ex", "show_alloc_mem_ex", "show_alloc_mem_map"};

/* -------------------------------------------------------------------------------------------------- small stack */
static void *on_a_small_stack(void *argument) {
    for (size_t i = 0; i < 3000; i++)
        if (!malloc(i % 100 ? i : 70000 + i)) /* left there to be seen */
            return NULL;
    for (size_t i = 0; i < COUNT(calls); i++)
        check(calls[i]() == 0, "%s fails", names[i]);
    return argument;
}

static void smallest_stack(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    long least = sysconf(_SC_THREAD_STACK_MIN);
    nowhere = open("/dev/null", O_WRONLY);
    pthread_attr_init(&attributes);
    check(pthread_attr_setstacksize(&attributes, (size_t)(least > 16384 ? least : 16384)) == 0, "stack size");
    check(pthread_create(&thread, &attributes, on_a_small_stack, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    expect_silence();
}

/* ------------------------------------------------------------------------------------------------ inside malloc */
static volatile sig_atomic_t asked, wrong;

/* Asks until each call has been refused once. */
static void ask(int signal) {
    (void)signal;
    int saved = errno;
    while (asked < (int)COUNT(calls)) {
        errno = 0;
        if (calls[asked]() == 0)
            break; /* not inside malloc */
        wrong |= errno != EDEADLK;
        asked++;
    }
    errno = saved;
}

static void inside_malloc(void) {
    static void *blocks[2000];
    struct sigaction action = {.sa_handler = ask};
    struct itimerval often = {.it_interval = {.tv_usec = 200}, .it_value = {.tv_usec = 200}}, never = {0};
    nowhere = open("/dev/null", O_WRONLY);
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    while (asked < (int)COUNT(calls)) { /* or the case's alarm */
        for (size_t i = 0; i < COUNT(blocks); i++)
            blocks[i] = malloc(i % 2 ? 100 : 100000);
        for (size_t i = 0; i < COUNT(blocks); i++)
            free(blocks[i]);
    }
    setitimer(ITIMER_PROF, &never, NULL);
    check(!wrong, "errno is not EDEADLK");
    for (size_t i = 0; i < COUNT(calls); i++)
        expect_report("%s: not now: *", names[i]);
    expect_silence();
}

static const struct test_case cases[] = {
    {"a stack of PTHREAD_STACK_MIN bytes is enough", smallest_stack},
    {"inside malloc each call is refused in a line: EDEADLK", inside_malloc},
};

MAIN_OF_CASES(cases)
