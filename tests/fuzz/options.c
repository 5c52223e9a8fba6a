/*
 * The option parser. An input is an environment, one variable a line: whatever it says, values stay in their bounds,
 * nothing malformed goes unsaid, and no complaint has a character that a terminal would obey. Then each line goes to
 * cadastre_option_set, and what comes of it to cadastre_option_get and back.
 */
#include "options.h"
#include "cadastre.h"
#include "tap.h"

#include <errno.h>

enum { VARIABLES = 64, LINE = 400 };

#define check(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "\n  failed: %s (%s:%d)\n", #condition, __FILE__, __LINE__);                               \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

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
    [OPTION_QUARANTINE] = (size_t)1 << 40,
    [OPTION_CHECK_EACH] = 1000000000,
    [OPTION_HISTORY] = 65536,
    [OPTION_STATS] = 2,
    [OPTION_DEEPBIND] = 1,
    [OPTION_HELP] = 1,
};

static size_t complaints;

static void note(void *argument, const char *line) {
    (void)argument;
    complaints++;
    check(strlen(line) < LINE && strstr(line, "; ignored"), "a complaint is cut: %s", line);
    for (; *line; line++)
        check(*line >= ' ' && *line <= '~', "a complaint has the character %d", *line);
}

static void parse(char **environment) {
    struct option_setting settings[OPTIONS];
    size_t ours = 0;
    size_t taken = 0;
    complaints = 0;
    options_parse(environment, settings, note, NULL);
    for (size_t i = 0; environment[i]; i++)
        ours += strncmp(environment[i], "CADASTRE_", 9) == 0;
    for (size_t id = 0; id < OPTIONS; id++) {
        check(settings[id].number <= most[id], "option %zu is %zu", id, settings[id].number);
        check(settings[id].text != NULL, "option %zu has no text", id);
        check(settings[id].source != 0 || settings[id].number == 0, "option %zu is %zu by nothing", id,
              settings[id].number);
        taken += settings[id].source == 1;
    }
    check(complaints + taken <= ours, "%zu complaints and %zu taken, of %zu", complaints, taken, ours);
    check(ours == 0 || complaints + taken > 0, "one of ours is ignored in silence");
}

/* A variable on its own is taken or complained of; what is set is what is got, and can be set again. */
static void set(char *variable) {
    char before[4200], value[4200], again[4200];
    char *equals = strchr(variable, '=');
    if (equals == NULL)
        return;
    *equals = '\0';
    bool known = cadastre_option_get(variable, before, sizeof before) == 0;
    check(known || errno == ENOENT, "getting %s: errno %d", variable, errno);
    errno = 0;
    bool is_set = cadastre_option_set(variable, equals + 1) == 0;
    check(is_set || errno == (known ? errno : ENOENT), "setting %s: errno %d", variable, errno);
    check(is_set || errno == ENOENT || errno == EPERM || errno == EINVAL || errno == ENOSPC, "errno %d", errno);
    if (known) {
        check(cadastre_option_get(variable, value, sizeof value) == 0, "%s cannot be got", variable);
        check(is_set || strcmp(before, value) == 0, "%s is %s, and was %s", variable, value, before);
        check(cadastre_option_get(variable, again, strlen(value)) == -1 && errno == ERANGE, "no room for %s", value);
    }
    if (is_set) {
        check(cadastre_option_set(variable, value) == 0, "%s=%s cannot be set again", variable, value);
        check(cadastre_option_get(variable, again, strlen(value) + 1) == 0 && strcmp(value, again) == 0,
              "%s is %s, and was %s", variable, again, value);
    }
    *equals = '=';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *environment[VARIABLES + 1] = {NULL};
    size_t count = 0;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *line = text, *end; line != NULL && count < VARIABLES; line = end) {
        end = strchr(line, '\n');
        if (end != NULL)
            *end++ = '\0';
        environment[count++] = strdup(line); /* each on its own: what is read beyond its end is found */
    }
    parse(environment);
    for (size_t i = 0; i < count; i++) {
        set(environment[i]);
        free(environment[i]);
    }
    free(text);
    /* What may be printed at exit must not go to a file that an input has named. */
    cadastre_option_set("LEAKS", "0");
    cadastre_option_set("LOG", "");
    return 0;
}
