/*
 * Cases of the debugging modes: each runs in a process of its own with options of its own, and ends as it should: exit
 * status, signal, and what stands on standard error. And what a case needs to read reports of several lines.
 */
#ifndef DEBUG_CASES_H
#define DEBUG_CASES_H

#include "misuse/child.h"

#include <sys/syscall.h>

struct debug_case {
    struct test_case test_case;
    const char *options[10];
    int signal;            /* that ends it; 0: it exits with 0 */
    const char *errors;    /* a pattern for its whole standard error; NULL: the case itself looks */
    void (*prepare)(void); /* before it executes; NULL: nothing */
};

#define ALL_MODES                                                                                                      \
    "CADASTRE_SCRIBBLE=1", "CADASTRE_CANARIES=1", "CADASTRE_QUARANTINE=1M", "CADASTRE_STACKS=16",                      \
        "CADASTRE_GUARD=edges", "CADASTRE_HISTORY=1000"

/* ---------------------------------------------------------------------------------------- reading reports */
static off_t errors_read;

/* The next line of standard error, without its newline; NULL: there is none. It is read again unless error_taken. */
static const char *error_line(void) {
    static char line[4096];
    ssize_t length = pread(STDERR_FILENO, line, sizeof line - 1, errors_read);
    if (length <= 0)
        return NULL;
    line[length] = '\0';
    char *end = strchr(line, '\n');
    check(end, "a line on standard error has no end: %s", line);
    *end = '\0';
    return line;
}

static void error_taken(const char *line) {
    errors_read += (off_t)strlen(line) + 1;
}

/* What another process of the case's has written is passed over. */
__attribute__((unused)) static void errors_skip(void) {
    errors_read = lseek(STDERR_FILENO, 0, SEEK_END);
}

/* The next line is "cadastre: " and this pattern. */
#define expect(...) expect_at(__LINE__, __VA_ARGS__)

__attribute__((format(printf, 2, 3), unused)) static void expect_at(int at, const char *format, ...) {
    char pattern[1024] = "cadastre: ";
    va_list args;
    va_start(args, format);
    vsnprintf(pattern + strlen(pattern), sizeof pattern - strlen(pattern), format, args);
    va_end(args);
    const char *line = error_line();
    check(line, "line %d: no report; expected: %s", at, pattern);
    check(matches(line, pattern), "line %d: report:   %s\n#          expected: %s", at, line, pattern);
    error_taken(line);
}

/* What follows a report: "called", then "taken" or "given back" by that thread; and the stack. The number of its calls;
 * the first of them goes to `first`, if that is not NULL. */
#define expect_who(what, thread, first) expect_who_at(__LINE__, what, thread, first)

__attribute__((unused)) static size_t expect_who_at(int at, const char *what, pid_t thread, char first[512]) {
    const char *line = error_line();
    char expected[100];
    size_t calls = 0;
    snprintf(expected, sizeof expected, "cadastre:   %s by thread %d*", what, (int)thread);
    check(line && matches(line, expected), "line %d: not '%s' but '%s'", at, expected, line ? line : "nothing");
    int has_stack = matches(line, "*, at");
    for (error_taken(line); (line = error_line()) && strncmp(line, "cadastre:     ", 14) == 0; error_taken(line))
        if (calls++ == 0 && first)
            snprintf(first, 512, "%s", line + 14);
    check((calls > 0) == has_stack, "line %d: %zu calls", at, calls);
    return calls;
}

#define expect_no_more() expect_no_more_at(__LINE__)

__attribute__((unused)) static void expect_no_more_at(int at) {
    const char *line = error_line();
    check(!line, "line %d: unexpected report: %s", at, line);
}

__attribute__((unused)) static pid_t this_thread(void) {
    return (pid_t)syscall(SYS_gettid);
}

/* Runs `body` in a child of fork, whose wait status it gives. What that reports is passed over here. */
__attribute__((unused)) static int forked(void (*body)(size_t), size_t argument) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        body(argument);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    errors_skip();
    return status;
}

/* ----------------------------------------------------------------------------------------------------- main */
__attribute__((unused)) static int ended_well(const struct debug_case *wanted, const struct outcome *outcome) {
    if (wanted->signal != 0 && !(WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == wanted->signal))
        return 0;
    if (wanted->signal == 0 && outcome->status != 0)
        return 0;
    return !wanted->errors || matches(outcome->errors, wanted->errors);
}

__attribute__((unused)) static int run_debug_cases(const struct debug_case *cases, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        const struct debug_case *one = &cases[i];
        if (name && strcmp(one->test_case.name, name) == 0)
            return run_named(&one->test_case, 1, name);
        if (name)
            continue;
        const struct outcome *outcome = run_case(one->test_case.name, one->options, one->prepare);
        int skipped = WIFEXITED(outcome->status) && WEXITSTATUS(outcome->status) == SKIPPED;
        if (!ok(skipped || ended_well(one, outcome), "%s%s", one->test_case.name, skipped ? " # SKIP" : "")) {
            diag("status %d, expected %s %d", outcome->status, one->signal ? "signal" : "exit status", one->signal);
            for (const char *at = outcome->errors; *at; at += strcspn(at, "\n"), at += *at == '\n')
                diag("  %.*s", (int)strcspn(at, "\n"), at);
        }
    }
    return name ? 1 : tap_done();
}

/* A case is known by its name: the options of two cases that run the same function differ, and so do their names. */
#define MAIN_OF_DEBUG_CASES(cases)                                                                                     \
    int main(int argc, char **argv) {                                                                                  \
        return run_debug_cases(cases, COUNT(cases), argc > 1 ? argv[1] : NULL);                                        \
    }

#endif
