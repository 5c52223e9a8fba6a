/*
 * The Test Anything Protocol for C tests, in the little that they need. Header-only, allocation-free: what is tested
 * is malloc, so nothing here may call it (stdout is unbuffered by write(2)).
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int tap_run, tap_failed;

__attribute__((format(printf, 1, 2), unused)) static void tap_print(const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t)n > sizeof line - 2)
        n = (int)sizeof line - 2;
    line[n] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)n + 1) < 0)
        _exit(3);
}

/* ok(condition, "what holds", ...): one test point. Gives the condition back. */
#define ok(condition, ...) tap_ok(!!(condition), #condition, __FILE__, __LINE__, __VA_ARGS__)

__attribute__((format(printf, 5, 6), unused)) static int tap_ok(int passed, const char *expression, const char *file,
                                                                int line, const char *format, ...) {
    char name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    int number = atomic_fetch_add(&tap_run, 1) + 1;
    tap_print("%sok %d - %s", passed ? "" : "not ", number, name);
    if (!passed) {
        atomic_fetch_add(&tap_failed, 1);
        tap_print("#   failed: %s (%s:%d)", expression, file, line);
    }
    return passed;
}

#define diag(...) tap_print("# " __VA_ARGS__)

/* Prints the plan and gives main's result. */
__attribute__((unused)) static int tap_done(void) {
    tap_print("1..%d", atomic_load(&tap_run));
    return atomic_load(&tap_failed) ? 1 : 0;
}

#endif
