/*
 * Options that the environment sets, as a program finds them: the names, the names of other allocators that mean the
 * same, which of two wins, and that what is malformed is reported under our names and ignored in silence under theirs.
 */
#include "cadastre.h"
#include "misuse/child.h"

/* Says what every option is, on standard error. */
static void say(void) {
    static const char *const names[] = {"ARENAS",   "ABORT",   "LEAKS",    "STACKS", "LOG",        "RELEASE_AT_EXIT",
                                        "SCRIBBLE", "PERTURB", "CANARIES", "GUARD",  "QUARANTINE", "CHECK_EACH",
                                        "HISTORY",  "STATS",   "DEEPBIND", "HELP"};
    for (size_t i = 0; i < COUNT(names); i++) {
        char value[100] = "";
        check(cadastre_option_get(names[i], value, sizeof value) == 0, "%s: no such option", names[i]);
        check(dprintf(STDERR_FILENO, "%s=%s\n", names[i], value) > 0, "cannot say it");
    }
}

static void frees_twice(void) {
    char *block = opaque(malloc(10));
    free(block);
    free(opaque(block));
}

static const struct test_case cases[] = {{"say", say}, {"frees_twice", frees_twice}};

/* What an environment changes against the defaults. */
static const struct {
    const char *options[4];
    const char *said; /* lines among those said; or a report before them */
} runs[] = {
    {{NULL},
     "ARENAS=auto\nABORT=0\nLEAKS=0\nSTACKS=0\nLOG=\nRELEASE_AT_EXIT=0\nSCRIBBLE=0\nPERTURB=0\nCANARIES=0\n"
     "GUARD=off\nQUARANTINE=0\nCHECK_EACH=0\nHISTORY=0\nSTATS=off\nDEEPBIND=drop\nHELP=0\n"},
    {{"CADASTRE_ARENAS=3"}, "ARENAS=3\n"},
    {{"MALLOC_ARENA_MAX=2"}, "ARENAS=2\n"},
    {{"MALLOC_ARENA_MAX=1000"}, "ARENAS=64\n"},
    {{"MALLOC_ARENA_MAX=2", "CADASTRE_ARENAS=5"}, "ARENAS=5\n"},
    {{"CADASTRE_LEAKS=0", "FtLeaks=1"}, "LEAKS=0\n"},
    {{"CADASTRE_PERTURB=0xa5"}, "PERTURB=165\n"},
    {{"MALLOC_PERTURB_=7"}, "PERTURB=7\n"},
    {{"CADASTRE_LOG=leaks.%p"}, "LOG=leaks.%p\n"},
    {{"CADASTRE_QUARANTINE=3k"}, "QUARANTINE=3K\n"},
    {{"CADASTRE_QUARANTINE=2048K"}, "QUARANTINE=2M\n"},
    {{"CADASTRE_QUARANTINE=1025"}, "QUARANTINE=1025\n"},
    {{"CADASTRE_GUARD=edges"}, "GUARD=edges\n"},
    {{"MallocGuardEdges=0"}, "GUARD=edges\n"},
    {{"CADASTRE_STATS=signal"}, "STATS=signal\n"},
    {{"CADASTRE_PERTURB=256"}, "cadastre: CADASTRE_PERTURB=256: not a number from 0 to 255; ignored\nARENAS=auto\n"},
    {{"CADASTRE_GUARD=1"}, "cadastre: CADASTRE_GUARD=1: not off|edges; ignored\nARENAS=auto\n"},
};

/* Malformed, under names of others: as if they were not there. */
static const char *const silent[] = {"MALLOC_ARENA_MAX=0", "MALLOC_ARENA_MAX=many", "MALLOC_PERTURB_=256",
                                     "MALLOC_PERTURB_=", "MALLOC_CHECK_=3"};

/* Each makes a wrong free fatal, but for the last. */
static const char *const aborting[][3] = {
    {"CADASTRE_ABORT=1"},
    {"FtMallocErrorAbort="},
    {"MallocErrorAbort=0"},
    {"CADASTRE_ABORT=maybe", "MallocErrorAbort="},
    {"CADASTRE_ABORT=0", "FtMallocErrorAbort=1"},
};

int main(int argc, char **argv) {
    static struct outcome usual;
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    usual = *run_case("say", NULL, NULL);
    for (size_t i = 0; i < COUNT(runs); i++) {
        const struct outcome *outcome = run_case("say", runs[i].options, NULL);
        const char *found = strstr(outcome->errors, runs[i].said);
        /* A line begins there, and a report at the very beginning. */
        int right = found && (found == outcome->errors || (found[-1] == '\n' && runs[i].said[0] != 'c')) &&
                    (outcome->errors[0] == 'c') == (runs[i].said[0] == 'c');
        if (!ok(outcome->status == 0 && right, "%s%s%s", runs[i].options[0] ? runs[i].options[0] : "no option",
                runs[i].options[0] && runs[i].options[1] ? " and " : "",
                runs[i].options[0] && runs[i].options[1] ? runs[i].options[1] : ""))
            diag("status %d; expected %s; standard error: %s", outcome->status, runs[i].said, outcome->errors);
    }
    for (size_t i = 0; i < COUNT(silent); i++) {
        const char *options[] = {silent[i], NULL};
        const struct outcome *outcome = run_case("say", options, NULL);
        ok(outcome->status == 0 && strcmp(outcome->errors, usual.errors) == 0, "%s: nothing is said or set", silent[i]);
    }
    for (size_t i = 0; i < COUNT(aborting); i++) {
        const struct outcome *outcome = run_case("frees_twice", aborting[i], NULL);
        int aborted = WIFSIGNALED(outcome->status) && WTERMSIG(outcome->status) == SIGABRT;
        ok(aborted == (i + 1 < COUNT(aborting)), "%s: a wrong free %s", aborting[i][0],
           i + 1 < COUNT(aborting) ? "aborts" : "does not abort: the name wins over its alias");
    }
    return tap_done();
}
