/* The parser of options, a function of an environment alone; and what becomes of its values at boot and later. */
#include "options.h"
#include "config.h"
#include "tap.h"
#include <errno.h>
#include <pthread.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct option_setting settings[OPTIONS];
static char complaints[4096];

static void collect(void *argument, const char *line) {
    strncat(argument, line, sizeof complaints - 2 - strlen(argument));
    strcat(argument, "\n");
}

/* What the variables give, and what is said of them. */
static void parse(char *const *environment) {
    memset(settings, 0xee, sizeof settings);
    complaints[0] = '\0';
    options_parse(environment, settings, collect, complaints);
}

/* -------------------------------------------------------------------------------------------- one variable */
static const struct {
    const char *variable;
    enum option_id id;
    size_t number;
    unsigned source;
} good[] = {
    {"CADASTRE_ARENAS=1", OPTION_ARENAS, 1, 1},
    {"CADASTRE_ARENAS=64", OPTION_ARENAS, 64, 1},
    {"CADASTRE_ARENAS=auto", OPTION_ARENAS, 0, 1},
    {"CADASTRE_ARENAS=0x10", OPTION_ARENAS, 16, 1},
    {"CADASTRE_ARENAS=007", OPTION_ARENAS, 7, 1},
    {"MALLOC_ARENA_MAX=2", OPTION_ARENAS, 2, 2},
    {"MALLOC_ARENA_MAX=1000", OPTION_ARENAS, 64, 2},
    {"CADASTRE_ABORT=1", OPTION_ABORT, 1, 1},
    {"CADASTRE_ABORT=yes", OPTION_ABORT, 1, 1},
    {"CADASTRE_ABORT=on", OPTION_ABORT, 1, 1},
    {"CADASTRE_ABORT=true", OPTION_ABORT, 1, 1},
    {"CADASTRE_ABORT=0", OPTION_ABORT, 0, 1},
    {"CADASTRE_ABORT=no", OPTION_ABORT, 0, 1},
    {"CADASTRE_ABORT=off", OPTION_ABORT, 0, 1},
    {"CADASTRE_ABORT=false", OPTION_ABORT, 0, 1},
    {"FtMallocErrorAbort=0", OPTION_ABORT, 1, 2},
    {"FtMallocErrorAbort=", OPTION_ABORT, 1, 2},
    {"FtMallocErrorAbort", OPTION_ABORT, 1, 2},
    {"MallocErrorAbort=no", OPTION_ABORT, 1, 3},
    {"FtLeaks=", OPTION_LEAKS, 1, 2},
    {"CADASTRE_STACKS=64", OPTION_STACKS, 64, 1},
    {"CADASTRE_RELEASE_AT_EXIT=1", OPTION_RELEASE_AT_EXIT, 1, 1},
    {"CADASTRE_SCRIBBLE=1", OPTION_SCRIBBLE, 1, 1},
    {"FtMallocScribble=", OPTION_SCRIBBLE, 1, 2},
    {"MallocScribble=", OPTION_SCRIBBLE, 1, 3},
    {"CADASTRE_PERTURB=255", OPTION_PERTURB, 255, 1},
    {"CADASTRE_PERTURB=0xA5", OPTION_PERTURB, 165, 1},
    {"MALLOC_PERTURB_=0XFf", OPTION_PERTURB, 255, 2},
    {"CADASTRE_CANARIES=1", OPTION_CANARIES, 1, 1},
    {"CADASTRE_GUARD=edges", OPTION_GUARD, GUARD_EDGES, 1},
    {"CADASTRE_GUARD=off", OPTION_GUARD, GUARD_OFF, 1},
    {"MallocGuardEdges=0", OPTION_GUARD, GUARD_EDGES, 2},
    {"CADASTRE_QUARANTINE=1", OPTION_QUARANTINE, 1, 1},
    {"CADASTRE_QUARANTINE=3k", OPTION_QUARANTINE, 3072, 1},
    {"CADASTRE_QUARANTINE=3K", OPTION_QUARANTINE, 3072, 1},
    {"CADASTRE_QUARANTINE=5M", OPTION_QUARANTINE, 5 * MIB, 1},
    {"CADASTRE_QUARANTINE=1024g", OPTION_QUARANTINE, 1024 * 1024 * MIB, 1},
    {"CADASTRE_QUARANTINE=0x10K", OPTION_QUARANTINE, 16384, 1},
    {"CADASTRE_CHECK_EACH=1000000000", OPTION_CHECK_EACH, 1000000000, 1},
    {"CADASTRE_HISTORY=65536", OPTION_HISTORY, 65536, 1},
    {"CADASTRE_STATS=off", OPTION_STATS, STATS_OFF, 1},
    {"CADASTRE_STATS=exit", OPTION_STATS, STATS_EXIT, 1},
    {"CADASTRE_STATS=signal", OPTION_STATS, STATS_SIGNAL, 1},
    {"CADASTRE_HELP=1", OPTION_HELP, 1, 1},
    {"MallocHelp=", OPTION_HELP, 1, 2},
};

static const char *const malformed[][2] = {
    {"CADASTRE_ARENAS=0", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=65", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=-1", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=+1", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS= 1", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=1 ", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=1K", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=0x", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=0x1g", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=0x:", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=aut", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=auto|", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=1f", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=18446744073709551617", "not a number from 1 to 64"},
    {"CADASTRE_ARENAS=0x10000000000000001", "not a number from 1 to 64"},
    {"CADASTRE_ABORT=2", "not 0 or 1"},
    {"CADASTRE_ABORT=", "not 0 or 1"},
    {"CADASTRE_ABORT=0|1", "not 0 or 1"},
    {"CADASTRE_ABORT=yes ", "not 0 or 1"},
    {"CADASTRE_STACKS=65", "not a number from 0 to 64"},
    {"CADASTRE_PERTURB=256", "not a number from 0 to 255"},
    {"CADASTRE_GUARD=1", "not off|edges"},
    {"CADASTRE_GUARD=", "not off|edges"},
    {"CADASTRE_GUARD=off|edges", "not off|edges"},
    {"CADASTRE_STATS=Exit", "not off|exit|signal"},
    {"CADASTRE_QUARANTINE=", "not a number of bytes from 0 to 1024G"},
    {"CADASTRE_QUARANTINE=K", "not a number of bytes from 0 to 1024G"},
    {"CADASTRE_QUARANTINE=1KK", "not a number of bytes from 0 to 1024G"},
    {"CADASTRE_QUARANTINE=1T", "not a number of bytes from 0 to 1024G"},
    {"CADASTRE_QUARANTINE=1025G", "not a number of bytes from 0 to 1024G"},
    {"CADASTRE_QUARANTINE=17179869184G", "not a number of bytes from 0 to 1024G"},
};

static const char *const ignored[] = {
    "MALLOC_ARENA_MAX=0",
    "MALLOC_ARENA_MAX=x",
    "MALLOC_ARENA_MAX=",
    "MALLOC_PERTURB_=256",
    "MALLOC_PERTURB_=-1",
    "MALLOC_ARENA_MAXI=1",
    "MALLOC_ARENA=1",
    "FtLeak=1",
    "FtLeaksX=1",
    "xFtLeaks=1",
    "CADASTRE=1",
    "cadastre_abort=1",
    "ABORT=1",
    "",
    "=",
    "=CADASTRE_ABORT=1",
    "C",
    "F",
    "M",
};

static void single(void) {
    for (size_t i = 0; i < COUNT(good); i++) {
        parse((char *[]){(char *)good[i].variable, NULL});
        size_t others = 0;
        for (size_t id = 0; id < OPTIONS; id++)
            others += id != good[i].id && (settings[id].source != 0 || settings[id].number != 0);
        const struct option_setting *setting = &settings[good[i].id];
        ok(setting->number == good[i].number && setting->source == good[i].source && others == 0 && !complaints[0],
           "%s is %zu", good[i].variable, good[i].number);
    }
    for (size_t i = 0; i < COUNT(malformed); i++) {
        char line[200];
        parse((char *[]){(char *)malformed[i][0], NULL});
        size_t taken = 0;
        for (size_t id = 0; id < OPTIONS; id++)
            taken += settings[id].source != 0 || settings[id].number != 0;
        snprintf(line, sizeof line, "%s: %s; ignored\n", malformed[i][0], malformed[i][1]);
        if (!ok(taken == 0 && strcmp(complaints, line) == 0, "%s is reported", malformed[i][0]))
            diag("said: %s", complaints);
    }
    for (size_t i = 0; i < COUNT(ignored); i++) {
        parse((char *[]){(char *)ignored[i], NULL});
        size_t taken = 0;
        for (size_t id = 0; id < OPTIONS; id++)
            taken += settings[id].source != 0 || settings[id].number != 0;
        ok(taken == 0 && !complaints[0], "'%s' is none of ours", ignored[i]);
    }
}

static void unknown(void) {
    static char long_one[1000] = "CADASTRE_LOG=";
    memset(long_one + 13, 'a', sizeof long_one - 14);
    parse((char *[]){(char *)"CADASTRE_FOO=secret", (char *)"CADASTRE_=1", (char *)"CADASTRE_ABORTS=1",
                     (char *)"CADASTRE_ABOR=1", (char *)"CADASTRE_\33[31m", NULL});
    ok(strcmp(complaints, "CADASTRE_FOO: unknown option; ignored\nCADASTRE_: unknown option; ignored\n"
                          "CADASTRE_ABORTS: unknown option; ignored\nCADASTRE_ABOR: unknown option; ignored\n"
                          "CADASTRE_?[31m: unknown option; ignored\n") == 0,
       "unknown ones are named, each on its line, without their values");
    parse((char *[]){long_one, NULL});
    ok(settings[OPTION_LOG].text == long_one + 13 && !complaints[0], "a path is a part of the environment");
    memcpy(long_one, "CADASTRE_HUH=", 13);
    long_one[12] = 'x';
    parse((char *[]){long_one, NULL});
    ok(strlen(complaints) < 250 && strstr(complaints, "aaa: unknown option; ignored\n"), "a long name is cut");
}

static void path_lengths(void) {
    static char longest[13 + 4095 + 1] = "CADASTRE_LOG=";
    static char longer[13 + 4096 + 1] = "CADASTRE_LOG=";
    memset(longest + 13, 'b', 4095);
    memset(longer + 13, 'b', 4096);
    parse((char *[]){longest, NULL});
    ok(settings[OPTION_LOG].source == 1 && !complaints[0], "a path of 4,095 bytes is taken");
    parse((char *[]){longer, NULL});
    ok(settings[OPTION_LOG].source == 0 && strstr(complaints, "bbb: not a path of at most 4095 bytes; ignored\n"),
       "one of 4,096 is reported");
}

static void precedence(void) {
    static char *const both[] = {"FtMallocErrorAbort=1", "CADASTRE_ABORT=0", "MallocErrorAbort=1", NULL};
    static char *const aliases[] = {"MallocScribble=1", "FtMallocScribble=1", NULL};
    static char *const broken[] = {"CADASTRE_PERTURB=bad", "MALLOC_PERTURB_=7", NULL};
    static char *const twice[] = {"CADASTRE_ARENAS=3", "CADASTRE_ARENAS=4", NULL};
    parse(both);
    ok(settings[OPTION_ABORT].number == 0 && settings[OPTION_ABORT].source == 1, "the name wins over its aliases");
    parse(aliases);
    ok(settings[OPTION_SCRIBBLE].source == 2, "the first alias over the second");
    parse(broken);
    ok(settings[OPTION_PERTURB].number == 7 && settings[OPTION_PERTURB].source == 2 && complaints[0],
       "a malformed name counts as not set");
    parse(twice);
    ok(settings[OPTION_ARENAS].number == 3, "of two variables of one name the first counts");
}

/* ---------------------------------------------------------------------------------------- random variables */
static uint64_t random_state = 0x9e3779b97f4a7c15;

static size_t random_below(size_t bound) {
    random_state = random_state * 6364136223846793005 + 1442695040888963407;
    return (size_t)(random_state >> 33) % bound;
}

/* A variable out of pieces that mean something, and a byte that does not. */
static void make_variable(char *variable, size_t capacity) {
    static const char *const heads[] = {
        "CADASTRE_ARENAS=",  "CADASTRE_ABORT=",      "CADASTRE_LEAKS=", "CADASTRE_STACKS=",     "CADASTRE_LOG=",
        "CADASTRE_PERTURB=", "CADASTRE_QUARANTINE=", "CADASTRE_GUARD=", "CADASTRE_CHECK_EACH=", "CADASTRE_HISTORY=",
        "CADASTRE_STATS=",   "MALLOC_ARENA_MAX=",    "CADASTRE_",       "MALLOC_PERTURB_=",     "FtLeaks",
    };
    static const char *const pieces[] = {"0",    "1",      "7",   "64", "255", "0x", "f",          "K",
                                         "M",    "g",      "=",   "|",  "off", "on", "auto",       "edges",
                                         "exit", "signal", "yes", "%p", "",    "-",  "99999999999"};
    snprintf(variable, capacity - 1, "%s", heads[random_below(COUNT(heads))]);
    for (size_t count = random_below(4); count > 0; count--)
        strcat(variable, pieces[random_below(COUNT(pieces))]);
    if (random_below(8) == 0)
        strcat(variable, (char[]){(char)(1 + random_below(255)), '\0'});
}

/* Whatever the environment: a value is in bounds, or it is the default and its variable was reported; and what is
 * printed of a value gives that value again. */
static void random_environments(void) {
    static const size_t most[OPTIONS] = {
        [OPTION_ARENAS] = 64,
        [OPTION_ABORT] = 1,
        [OPTION_LEAKS] = 1,
        [OPTION_STACKS] = 64,
        [OPTION_LOG] = 0,
        [OPTION_RELEASE_AT_EXIT] = 1,
        [OPTION_SCRIBBLE] = 1,
        [OPTION_PERTURB] = 255,
        [OPTION_CANARIES] = 1,
        [OPTION_GUARD] = 1,
        [OPTION_QUARANTINE] = 1024 * 1024 * MIB,
        [OPTION_CHECK_EACH] = 1000000000,
        [OPTION_HISTORY] = 65536,
        [OPTION_STATS] = 2,
        [OPTION_DEEPBIND] = 1,
        [OPTION_HELP] = 1,
    };
    size_t outside = 0;
    size_t unsaid = 0;
    size_t changed = 0;
    size_t accepted = 0;
    for (size_t round = 0; round < 20000; round++) {
        char variable[100];
        make_variable(variable, 40);
        parse((char *[]){variable, NULL});
        struct option_setting first[OPTIONS];
        memcpy(first, settings, sizeof first);
        size_t taken = OPTIONS;
        for (size_t id = 0; id < OPTIONS; id++) {
            outside += first[id].number > most[id];
            if (first[id].source != 0)
                taken = id;
        }
        unsaid += (strncmp(variable, "CADASTRE_", 9) == 0) != (taken != OPTIONS || complaints[0]) && taken == OPTIONS;
        if (taken == OPTIONS || taken == OPTION_LOG || complaints[0] || first[taken].source != 1)
            continue;
        accepted++;
        options_boot((char *[]){variable, NULL});
        char again[100];
        char value[40];
        changed += !option_print(taken, value, sizeof value);
        snprintf(again, sizeof again, "%.*s=%s", (int)strcspn(variable, "="), variable, value);
        parse((char *[]){again, NULL});
        changed += settings[taken].number != first[taken].number || settings[taken].source != 1;
    }
    ok(outside == 0, "20,000 random variables: no value is out of bounds");
    ok(unsaid == 0, "none of ours is ignored in silence");
    ok(accepted > 500 && changed == 0, "what is printed of a value gives that value again (%zu)", accepted);
}

/* ---------------------------------------------------------------------------------------------- at run time */
static enum option_id changed_last = OPTIONS;

static void note_change(enum option_id id) {
    changed_last = id;
}

static void changes(void) {
    static char log[] = "CADASTRE_LOG=/var/one";
    char path[20];
    char text[5];
    options_boot((char *[]){log, (char *)"CADASTRE_HISTORY=9", NULL});
    memset(log + 13, 'x', 8);
    ok(strcmp(option_text(OPTION_LOG), "/var/one") == 0, "a path is kept when the program overwrites its environment");
    options_on_change(note_change);
    const char *first = option_text(OPTION_LOG);
    ok(option_change(OPTION_PERTURB, "77") == 0 && option_value(OPTION_PERTURB) == 77 && changed_last == OPTION_PERTURB,
       "a change is made, and told");
    changed_last = OPTIONS;
    ok(option_change(OPTION_PERTURB, "777") == EINVAL && option_value(OPTION_PERTURB) == 77, "a malformed one is not");
    ok(option_change(OPTION_HISTORY, "10") == EPERM && option_value(OPTION_HISTORY) == 9, "some take a fresh start");
    ok(changed_last == OPTIONS, "neither is told");
    int result = 0;
    for (int i = 2; i < 16 && result == 0; i++) {
        snprintf(path, sizeof path, "/var/%d", i);
        result = option_change(OPTION_LOG, path);
    }
    ok(result == 0 && strcmp(option_text(OPTION_LOG), "/var/15") == 0, "15 paths are kept");
    ok(option_change(OPTION_LOG, "/var/16") == ENOSPC, "not one more");
    ok(option_change(OPTION_LOG, "/var/one") == 0 && option_text(OPTION_LOG) == first, "the same one is no more");
    ok(option_change(OPTION_LOG, "") == 0 && option_text(OPTION_LOG)[0] == '\0', "nor is the empty one");
    option_change(OPTION_LOG, "/var");
    option_change(OPTION_LOG, "/var/3");
    ok(option_print(OPTION_LOG, path, 7) && strcmp(path, "/var/3") == 0, "a text that just fits is printed");
    ok(!option_print(OPTION_LOG, path, 6) && !option_print(OPTION_LOG, path, 0), "one that does not is not");
    ok(option_find("ABORT") == OPTION_ABORT && option_find("CADASTRE_STATS") == OPTION_STATS, "names are found");
    ok(option_find("FOO") == OPTIONS && option_find("") == OPTIONS && option_find("CADASTRE_CADASTRE_ABORT") == OPTIONS,
       "what is none is not");
    options_boot((char *[]){NULL});
    size_t left = 0;
    for (size_t id = 0; id < OPTIONS; id++)
        left += option_value(id);
    ok(left == 0 && option_print(OPTION_ARENAS, text, sizeof text) && strcmp(text, "auto") == 0, "defaults");
}

/* What follows a change is done before the next one begins. */
static atomic_int followers;
static atomic_int overlaps;

static void follow(enum option_id id) {
    size_t value = option_value(id);
    overlaps += followers++ != 0;
    usleep(10);
    overlaps += option_value(id) != value;
    followers--;
}

static void *change_often(void *argument) {
    for (size_t i = 0; i < 300; i++)
        option_change(OPTION_PERTURB, i % 2 ? argument : "0");
    return NULL;
}

static void one_at_a_time(void) {
    static const char *const values[] = {"1", "2", "3", "4"};
    pthread_t threads[COUNT(values)];
    options_on_change(follow);
    for (size_t i = 0; i < COUNT(values); i++)
        pthread_create(&threads[i], NULL, change_often, (void *)values[i]);
    for (size_t i = 0; i < COUNT(values); i++)
        pthread_join(threads[i], NULL);
    ok(overlaps == 0, "changes are made one at a time (%d overlaps)", overlaps);
}

int main(void) {
    single();
    unknown();
    path_lengths();
    precedence();
    random_environments();
    changes();
    one_at_a_time();
    return tap_done();
}
