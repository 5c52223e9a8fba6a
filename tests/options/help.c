/*
 * CADASTRE_HELP=1 prints every option at start: its value, where that comes from, and its default; so does
 * cadastre_option_help later, of what is so then.
 */
#include "cadastre.h"
#include "misuse/child.h"

static void works(void) {
    free(malloc(10));
}

/* Of each option the line "  CADASTRE_NAME=VALUE (": the value is what cadastre_option_get gives. */
static void all_are_listed(void) {
    size_t listed = 0;
    cadastre_option_help(STDERR_FILENO);
    for (const char *line; (line = next_error());) {
        char name[64] = "";
        char value[200];
        if (strncmp(line, "  CADASTRE_", 11) != 0)
            continue;
        listed++;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(line + 2, "="), line + 2);
        check(cadastre_option_get(name, value, sizeof value) == 0, "%s is no option", name);
        size_t length = strlen(value);
        check(strncmp(line + 2 + strlen(name) + 1, value, length) == 0, "%s, and it is %s", line, value);
        check(line[2 + strlen(name) + 1 + length] == ' ', "%s, and it is %s", line, value);
    }
    check(listed == 16, "%zu options", listed);
}

static void expect_line(const char *pattern) {
    const char *line;
    cadastre_option_help(STDERR_FILENO);
    int found = 0;
    while ((line = next_error()))
        found += matches(line, pattern);
    check(found == 1, "%d lines are %s", found, pattern);
}

static void run_time(void) {
    expect_line("  CADASTRE_PERTURB=0 (default)");
    check(cadastre_option_set("PERTURB", "9") == 0, "cannot set it");
    expect_line("  CADASTRE_PERTURB=9 (set at run time; default 0)");
    check(cadastre_option_set("LOG", "a\nb\033c") == 0, "cannot set it");
    expect_line("  CADASTRE_LOG=a?b?c (set at run time; default)");
}

/* Where nobody listens, or nothing is open, it does no harm. */
static void nowhere(void) {
    errno = 0;
    cadastre_option_help(-1);
    cadastre_option_help(1000);
    check(errno == 0, "errno is %d", errno);
}

static const struct test_case cases[] = {
    {"works", works}, {"all_are_listed", all_are_listed}, {"run_time", run_time}, {"nowhere", nowhere}};

static const struct {
    const char *options[3];
    const char *line; /* NULL: nothing is printed */
} runs[] = {
    {{NULL}, NULL},
    {{"CADASTRE_HELP=0"}, NULL},
    {{"CADASTRE_HELP=0", "MallocHelp=1"}, NULL},
    {{"CADASTRE_HELP=1"}, "\n  CADASTRE_HELP=1 (from CADASTRE_HELP; default 0)\n"},
    {{"MallocHelp="}, "\n  CADASTRE_HELP=1 (from MallocHelp; default 0)\n"},
    {{"CADASTRE_HELP=1", "MALLOC_ARENA_MAX=2"}, "\n  CADASTRE_ARENAS=2 (from MALLOC_ARENA_MAX; default auto)\n"},
    {{"CADASTRE_HELP=1", "MallocScribble="}, "\n  CADASTRE_SCRIBBLE=1 (from MallocScribble; default 0)\n"},
    {{"CADASTRE_HELP=1", "CADASTRE_STATS=exit"}, "\n  CADASTRE_STATS=exit (from CADASTRE_STATS; default off)\n"},
    {{"CADASTRE_HELP=1", "CADASTRE_LOG=a\033]b"}, "\n  CADASTRE_LOG=a?]b (from CADASTRE_LOG; default)\n"},
    {{"CADASTRE_HELP=1"}, "\n  CADASTRE_QUARANTINE=0 (default)\n"},
    {{"CADASTRE_HELP=1"}, "\n      0 or 1, at run time too; also FtLeaks (if set at all)\n"},
    {{"CADASTRE_HELP=1"}, "\n      a number of bytes from 0 to 1024G\n"},
    {{"CADASTRE_HELP=1"}, "\n      auto, or a number from 1 to 64; also MALLOC_ARENA_MAX\n"},
};

int main(int argc, char **argv) {
    static const char *const mode[] = {"CADASTRE_QUARANTINE=1K", NULL}; /* a debugging mode, where more can be set */
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(runs); i++) {
        const struct outcome *outcome = run_case("works", runs[i].options, NULL);
        const char *line = runs[i].line;
        int right = line ? strstr(outcome->errors, line) != NULL : outcome->errors[0] == '\0';
        if (!ok(outcome->status == 0 && right, "%s: %.*s", runs[i].options[0] ? runs[i].options[0] : "no option",
                line ? (int)strcspn(line + 1, "\n") : 7, line ? line + 1 : "nothing"))
            diag("status %d; standard error: %s", outcome->status, outcome->errors);
    }
    for (size_t i = 1; i < COUNT(cases); i++)
        ok_case(cases[i].name, cases[i].run == run_time ? mode : NULL, NULL);
    return tap_done();
}
