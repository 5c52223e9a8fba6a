/*
 * cadastre_option_get and cadastre_option_set: what may change while the process runs changes and takes effect, all
 * else is refused with its errno and stands; and 16 threads that set, get and allocate see whole values only.
 */
#include "cadastre.h"
#include "misuse/child.h"
#include <pthread.h>

static int is(const char *name, const char *wanted) {
    char value[5000] = "";
    return cadastre_option_get(name, value, sizeof value) == 0 && strcmp(value, wanted) == 0;
}

static int refused(const char *name, const char *value, int error) {
    errno = 0;
    return cadastre_option_set(name, value) == -1 && errno == error;
}

static void changes(void) {
    static const char *const values[][2] = {{"ABORT", "1"},           {"LEAKS", "1"},    {"LOG", "/dev/null"},
                                            {"PERTURB", "42"},        {"SCRIBBLE", "1"}, {"RELEASE_AT_EXIT", "1"},
                                            {"CHECK_EACH", "1000000"}};
    for (size_t i = 0; i < COUNT(values); i++) {
        char old[5000];
        errno = E2BIG;
        check(cadastre_option_get(values[i][0], old, sizeof old) == 0, "%s: cannot be read", values[i][0]);
        check(cadastre_option_set(values[i][0], values[i][1]) == 0, "%s: cannot be set", values[i][0]);
        check(is(values[i][0], values[i][1]), "%s is not what it was set to", values[i][0]);
        check(cadastre_option_set(values[i][0], old) == 0, "%s: cannot be set back to '%s'", values[i][0], old);
        check(is(values[i][0], old), "%s is not what it was before", values[i][0]);
        check(errno == E2BIG, "%s: errno was changed to %d", values[i][0], errno);
    }
    check(cadastre_option_set("CADASTRE_PERTURB", "0x10") == 0 && is("CADASTRE_PERTURB", "16"), "with its prefix");
    check(cadastre_option_set("ABORT", "yes") == 0 && is("ABORT", "1"), "another word for 1");
}

static void refusals(void) {
    static const char *const at_start[] = {"ARENAS",  "STACKS", "CANARIES", "GUARD", "QUARANTINE",
                                           "HISTORY", "STATS",  "DEEPBIND", "HELP"};
    char value[5] = "none";
    for (size_t i = 0; i < COUNT(at_start); i++)
        check(refused(at_start[i], "1", EPERM), "%s: set at run time", at_start[i]);
    check(is("ARENAS", "auto") && is("GUARD", "off") && is("HISTORY", "0"), "a refused one was changed");
    check(refused("FOO", "1", ENOENT), "an unknown one is set");
    check(refused("", "1", ENOENT), "one without a name is set");
    check(refused("abort", "1", ENOENT), "a name in lower case is taken");
    check(refused("FtMallocErrorAbort", "1", ENOENT), "an alias is taken");
    check(refused("ABORT", "maybe", EINVAL) && is("ABORT", "0"), "maybe");
    check(refused("PERTURB", "256", EINVAL) && is("PERTURB", "0"), "a number out of bounds");
    check(refused("CHECK_EACH", "", EINVAL), "no number");
    errno = 0;
    check(cadastre_option_get("FOO", value, sizeof value) == -1 && errno == ENOENT, "an unknown one is got");
    errno = 0;
    check(cadastre_option_get("ARENAS", value, 4) == -1 && errno == ERANGE, "four bytes hold 'auto' and its end");
    check(cadastre_option_get("ARENAS", value, 5) == 0 && strcmp(value, "auto") == 0, "five do not");
    errno = 0;
    check(cadastre_option_get("ARENAS", NULL, 0) == -1 && errno == ERANGE, "no byte does");
}

static void paths(void) {
    static char path[5000];
    char name[20];
    memset(path, 'p', 4096);
    check(refused("LOG", path, EINVAL), "a path of 4,096 bytes is taken");
    path[4095] = '\0';
    check(cadastre_option_set("LOG", path) == 0 && is("LOG", path), "one of 4,095 is not");
    for (int i = 0; i < 14; i++) {
        snprintf(name, sizeof name, "log.%d", i);
        check(cadastre_option_set("LOG", name) == 0 && is("LOG", name), "path %d is refused", i);
    }
    check(refused("LOG", "log.14", ENOSPC) && is("LOG", "log.13"), "a sixteenth path is taken");
    for (int i = 0; i < 1000; i++)
        check(cadastre_option_set("LOG", i % 2 ? "log.3" : "") == 0, "one that was there before is refused");
    check(is("LOG", "log.3"), "and is not what it is");
}

static void frees_twice(void) {
    char *block = opaque(malloc(40));
    free(block);
    free(opaque(block));
}

static void abort_takes_effect(void) {
    frees_twice();
    expect_report("free(0x@): double free: *");
    check(cadastre_option_set("ABORT", "1") == 0, "cannot be set");
    pid_t pid = fork();
    if (pid == 0) {
        frees_twice();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "a wrong free does not abort");
    expect_report("free(0x@): double free: *");
    check(cadastre_option_set("ABORT", "0") == 0, "cannot be set back");
    frees_twice();
    expect_report("free(0x@): double free: *");
}

enum { THREADS = 16, ROUNDS = 2000 };

static atomic_int wrong;

/* Sets what nobody's free would act on; each value is told from a torn one. */
static void *sets_and_gets(void *argument) {
    static const char *const logs[] = {"", "aaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbb",
                                       "cccccccccccccccccccccccccccccc"};
    size_t number = (size_t)(uintptr_t)argument;
    for (size_t i = 0; i < ROUNDS; i++) {
        char value[100];
        int known = 0;
        char *block = malloc(1 + i % 3000);
        if (number % 2 == 0) {
            wrong += cadastre_option_set("LOG", logs[(i + number) % 4]) != 0;
            wrong += cadastre_option_set("RELEASE_AT_EXIT", i % 2 ? "1" : "0") != 0;
        }
        wrong += cadastre_option_get("LOG", value, sizeof value) != 0;
        for (size_t j = 0; j < 4; j++)
            known += strcmp(value, logs[j]) == 0;
        wrong += !known;
        wrong += cadastre_option_get("CHECK_EACH", value, sizeof value) != 0 || strcmp(value, "0") != 0;
        wrong += block == NULL;
        free(block);
    }
    return NULL;
}

static void threads(void) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, sets_and_gets, (void *)i) == 0, "no thread");
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check(wrong == 0, "%d wrong results", wrong);
}

/* In a child of fork as in its parent, whatever other threads were doing. */
static void forks(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, sets_and_gets, NULL) == 0, "no thread");
    for (int i = 0; i < 20; i++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
            _exit(cadastre_option_set("LOG", "bbbbbbbbbbbb") == 0 && is("LOG", "bbbbbbbbbbbb") ? 0 : 1);
        waitpid(pid, &status, 0);
        check(status == 0, "child %d: status %d", i, status);
    }
    pthread_join(thread, NULL);
    check(wrong == 0, "%d wrong results", wrong);
}

static void without_a_mode(void) {
    static const char *const names[] = {"SCRIBBLE", "PERTURB", "CHECK_EACH"};
    for (size_t i = 0; i < COUNT(names); i++)
        check(refused(names[i], "1", EPERM) && is(names[i], "0"), "%s: set where calls do not come by it", names[i]);
    check(cadastre_option_set("ABORT", "1") == 0, "but ABORT works everywhere");
}

static const struct test_case cases[] = {{"changes", changes},
                                         {"refusals", refusals},
                                         {"paths", paths},
                                         {"abort_takes_effect", abort_takes_effect},
                                         {"threads", threads},
                                         {"forks", forks},
                                         {"without_a_mode", without_a_mode}};

/* Most of them in a process with a debugging mode, where more can be set. */
int main(int argc, char **argv) {
    static const char *const mode[] = {"CADASTRE_QUARANTINE=1K", NULL};
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(cases); i++)
        ok_case(cases[i].name, cases[i].run == without_a_mode || cases[i].run == abort_takes_effect ? NULL : mode,
                NULL);
    return tap_done();
}
