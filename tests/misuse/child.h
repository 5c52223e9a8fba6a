/*
 * Cases that run in a process of their own: a test program runs itself again with the name of the case, its standard
 * error in a memory file that both sides can read. What a case finds wrong it prints as a comment and exits with 1.
 */
#ifndef MISUSE_CHILD_H
#define MISUSE_CHILD_H

#include "tap.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct test_case {
    const char *name;
    void (*run)(void);
};

/* How a child ended: its wait status, and its whole standard error. */
struct outcome {
    int status;
    char errors[16 << 10];
};

extern char **environ;

/* Keeps the compiler from knowing what a pointer or a number is: the tests do what it would warn about or elide. */
__attribute__((unused)) static void *opaque(const void *pointer) {
    void *result = (void *)pointer;
    __asm__ volatile("" : "+r"(result) : : "memory");
    return result;
}

__attribute__((unused)) static size_t opaque_size(size_t size) {
    __asm__ volatile("" : "+r"(size));
    return size;
}

/* In a case: ends the process with a comment unless the condition holds. */
#define check(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            diag(__VA_ARGS__);                                                                                         \
            diag("  failed: %s (%s:%d)", #condition, __FILE__, __LINE__);                                              \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* In a case: ends the process because this machine does not allow what the case tries. */
enum { SKIPPED = 77 };

#define skip_case(...) (diag(__VA_ARGS__), _exit(SKIPPED))

/*
 * Whether `text` is what `pattern` says, from start to end. In a pattern '#' stands for a decimal number, '@' for a
 * lower-case hexadecimal one (neither padded with zeros) and '*' for anything.
 */
__attribute__((unused)) static int matches(const char *text, const char *pattern) {
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            do {
                if (matches(text, pattern + 1))
                    return 1;
            } while (*text++);
            return 0;
        }
        if (*pattern == '#' || *pattern == '@') {
            const char *digits = *pattern == '#' ? "0123456789" : "0123456789abcdef";
            size_t length = strspn(text, digits);
            if (length == 0 || (length > 1 && text[0] == '0'))
                return 0;
            text += length;
        } else if (*text++ != *pattern) {
            return 0;
        }
    }
    return *text == '\0';
}

/* In a case: the line that standard error gained since the last call, without its newline; NULL if it gained none. */
__attribute__((unused)) static const char *next_error(void) {
    static char line[4096];
    static off_t seen;
    ssize_t length = pread(STDERR_FILENO, line, sizeof line - 1, seen);
    if (length <= 0)
        return NULL;
    line[length] = '\0';
    char *end = strchr(line, '\n');
    check(end, "a line on standard error has no end: %s", line);
    *end = '\0';
    seen += end - line + 1;
    return line;
}

/* In a case: the next line on standard error is "cadastre: " and then this pattern. */
#define expect_report(...) expect_report_at(__LINE__, __VA_ARGS__)

__attribute__((format(printf, 2, 3), unused)) static void expect_report_at(int line, const char *format, ...) {
    char pattern[1024] = "cadastre: ";
    va_list args;
    va_start(args, format);
    vsnprintf(pattern + strlen(pattern), sizeof pattern - strlen(pattern), format, args);
    va_end(args);
    const char *text = next_error();
    check(text, "line %d: no report; expected: %s", line, pattern);
    check(matches(text, pattern), "line %d: report:   %s\n#          expected: %s", line, text, pattern);
}

/* In a case: nothing more was written on standard error. */
__attribute__((unused)) static void expect_silence(void) {
    const char *text = next_error();
    check(!text, "unexpected report: %s", text);
}

/* Names that change the library's behaviour do not come in from outside: each case states its own. */
static int is_option(const char *entry) {
    static const char *const prefixes[] = {"CADASTRE_", "Ft", "Malloc", "MALLOC_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
            return 1;
    return 0;
}

/*
 * Starts the case `name` in a new process with the given extra environment (NULL or NULL-terminated), its standard
 * error going to the file `errors`; `prepare`, if not NULL, is called in the child before it executes, where it may
 * set limits. Returns the process, or -1. Under an emulator, whose path is in EMULATOR, that is what can run this
 * program again.
 */
__attribute__((unused)) static pid_t start_case(const char *name, const char *const *options, void (*prepare)(void),
                                                int errors) {
    const char *environment[1024];
    size_t n = 0;
    for (char **entry = environ; *entry && n < 1000; entry++)
        if (!is_option(*entry))
            environment[n++] = *entry;
    for (size_t i = 0; options && options[i] && n < 1020; i++)
        environment[n++] = options[i];
    environment[n] = NULL;

    const char *emulator = getenv("EMULATOR");
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length < 0 ? 0 : length] = '\0';
    pid_t pid = fork();
    if (pid == 0) {
        char *arguments[] = {(char *)"case", (char *)name, NULL};
        char *emulated[] = {(char *)emulator, self, (char *)name, NULL};
        dup2(errors, STDERR_FILENO);
        if (prepare)
            prepare();
        if (emulator)
            execve(emulator, emulated, (char **)environment);
        execve("/proc/self/exe", arguments, (char **)environment);
        diag("cannot run this test again: %s", strerror(errno));
        _exit(127);
    }
    return pid;
}

/* Waits for a case's end. The result stands until the next call. */
__attribute__((unused)) static const struct outcome *end_case(pid_t pid, int errors) {
    static struct outcome outcome;
    outcome = (struct outcome){.status = -1};
    while (waitpid(pid, &outcome.status, 0) < 0 && errno == EINTR)
        continue;
    if (pread(errors, outcome.errors, sizeof outcome.errors - 1, 0) < 0)
        outcome.status = -1;
    return &outcome;
}

/* Both: runs a case to its end. */
__attribute__((unused)) static const struct outcome *run_case(const char *name, const char *const *options,
                                                              void (*prepare)(void)) {
    int errors = memfd_create("stderr", MFD_CLOEXEC);
    const struct outcome *outcome = end_case(start_case(name, options, prepare, errors), errors);
    close(errors);
    return outcome;
}

/* main's second half in a child: runs the case that it was started for. */
__attribute__((unused)) static int run_named(const struct test_case *cases, size_t count, const char *name) {
    alarm(60); /* a case that hangs ends by SIGALRM, not with the whole run */
    for (size_t i = 0; i < count; i++) {
        if (strcmp(cases[i].name, name) == 0) {
            cases[i].run();
            return 0;
        }
    }
    diag("no case is called %s", name);
    return 1;
}

/* One test point: the case ran to its end and exited with 0, or was skipped. */
__attribute__((unused)) static int ok_case(const char *name, const char *const *options, void (*prepare)(void)) {
    const struct outcome *outcome = run_case(name, options, prepare);
    int skipped = WIFEXITED(outcome->status) && WEXITSTATUS(outcome->status) == SKIPPED;
    int passed = ok(outcome->status == 0 || skipped, "%s%s", name, skipped ? " # SKIP not possible here" : "");
    if (!passed && WIFSIGNALED(outcome->status))
        diag("%s: killed by signal %d; its standard error:\n%s", name, WTERMSIG(outcome->status), outcome->errors);
    return passed;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* main of a test whose every case is one point, run as it is. */
#define MAIN_OF_CASES(cases)                                                                                           \
    int main(int argc, char **argv) {                                                                                  \
        if (argc > 1)                                                                                                  \
            return run_named(cases, COUNT(cases), argv[1]);                                                            \
        for (size_t i = 0; i < COUNT(cases); i++)                                                                      \
            ok_case(cases[i].name, NULL, NULL);                                                                        \
        return tap_done();                                                                                             \
    }

/* A case with a setting of its own: what is called before it executes, and an option; NULL: none. */
struct set_case {
    struct test_case test_case;
    void (*prepare)(void);
    const char *option;
};

#define MAIN_OF_SET_CASES(cases)                                                                                       \
    int main(int argc, char **argv) {                                                                                  \
        for (size_t i = 0; i < COUNT(cases); i++) {                                                                    \
            const char *options[] = {cases[i].option, NULL};                                                           \
            if (argc == 1)                                                                                             \
                ok_case(cases[i].test_case.name, options, cases[i].prepare);                                           \
            else if (strcmp(cases[i].test_case.name, argv[1]) == 0)                                                    \
                return run_named(&cases[i].test_case, 1, argv[1]);                                                     \
        }                                                                                                              \
        return argc == 1 ? tap_done() : 1;                                                                             \
    }

#endif
