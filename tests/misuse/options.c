/*
 * Options that are malformed or unknown are reported in one line each, without what a terminal would obey, and ignored;
 * good ones are silent, and what only resembles an option is none of ours.
 */
#include "cadastre.h"
#include "misuse/child.h"

/* The one case: a program that allocates a little. */
static void works(void) {
    void *blocks[100];
    for (size_t i = 0; i < 100; i++)
        blocks[i] = malloc(i * 1000);
    for (size_t i = 0; i < 100; i++)
        free(blocks[i]);
}

static const struct test_case cases[] = {{"works", works}};

static const struct {
    const char *options[3];
    const char *report;
} runs[] = {
    {{"CADASTRE_ARENAS=abc"}, "cadastre: CADASTRE_ARENAS=abc: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_ARENAS=0"}, "cadastre: CADASTRE_ARENAS=0: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_ARENAS=65"}, "cadastre: CADASTRE_ARENAS=65: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_ARENAS=-1"}, "cadastre: CADASTRE_ARENAS=-1: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_ARENAS=4x"}, "cadastre: CADASTRE_ARENAS=4x: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_ARENAS="}, "cadastre: CADASTRE_ARENAS=: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_ARENAS=18446744073709551617"},
     "cadastre: CADASTRE_ARENAS=18446744073709551617: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_FOO=1"}, "cadastre: CADASTRE_FOO: unknown option; ignored\n"},
    {{"CADASTRE_ARENASX=4"}, "cadastre: CADASTRE_ARENASX: unknown option; ignored\n"},
    {{"CADASTRE_ARENA=4"}, "cadastre: CADASTRE_ARENA: unknown option; ignored\n"},
    {{"CADASTRE_X\033[31m=1"}, "cadastre: CADASTRE_X?[31m: unknown option; ignored\n"},
    {{"CADASTRE_\r\177\303\251=1"}, "cadastre: CADASTRE_????: unknown option; ignored\n"},
    {{"CADASTRE_ARENAS=\033]0;\a4\n"}, "cadastre: CADASTRE_ARENAS=?]0;?4?: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_FOO=1", "CADASTRE_ARENAS=abc"},
     "cadastre: CADASTRE_FOO: unknown option; ignored\n"
     "cadastre: CADASTRE_ARENAS=abc: not a number from 1 to 64; ignored\n"},
    {{"CADASTRE_ARENAS=1"}, ""},
    {{"CADASTRE_ARENAS=7"}, ""},
    {{"CADASTRE_ARENAS=64"}, ""},
    {{"CADASTRE_ABORT=1"}, ""},
    {{"CADASTRE_ABORT=0"}, ""},
    {{"FtMallocErrorAbort=whatever"}, ""},
    {{"CADASTRE=1"}, ""},
    {{"cadastre_foo=1"}, ""},
    {{"MYCADASTRE_FOO=1"}, ""},
    {{NULL}, ""},
};

/* For the name of a test point. */
static const char *printable(const char *option) {
    static char text[100];
    snprintf(text, sizeof text, "%s", option);
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return text;
}

int main(int argc, char **argv) {
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(runs); i++) {
        const struct outcome *outcome = run_case(cases[0].name, runs[i].options, NULL);
        const char *first = runs[i].options[0] ? printable(runs[i].options[0]) : "no option";
        int right = outcome->status == 0 && strcmp(outcome->errors, runs[i].report) == 0;
        if (!ok(right, "%s%s: %s", first, runs[i].options[1] ? " and more" : "",
                runs[i].report[0] ? "reported and ignored" : "silent"))
            diag("status %d, standard error: %s", outcome->status, outcome->errors);
    }
    return tap_done();
}
