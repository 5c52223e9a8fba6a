#include "options.h"
#include "config.h"
#include "message.h"
#include <string.h>
#include <sys/auxv.h>

#define PREFIX "CADASTRE_"

enum option_type { OPTION_NUMBER, OPTION_SWITCH, OPTION_STATS_WORD };

struct option {
    const char *name;  /* after PREFIX */
    const char *alias; /* means 1 when set, whatever its value */
    enum option_type type;
    size_t min, max;
    size_t fallback;
    const char *help;
};

static const struct option table[OPTIONS] = {
    [OPTION_ARENAS] = {"ARENAS", NULL, OPTION_NUMBER, 1, ARENAS_MAX, 0,
                       "number of arenas, instead of four for each CPU"},
    [OPTION_ABORT] = {"ABORT", "FtMallocErrorAbort", OPTION_SWITCH, 0, 1, 0, "abort on a wrong free"},
    [OPTION_STATS] = {"STATS", NULL, OPTION_STATS_WORD, 0, 2, 0, "print statistics at exit, or on a signal"},
};

static size_t values[OPTIONS]; /* constant after boot */

size_t option_value(enum option_id id) {
    return values[id];
}

/* "NAME=value: why; ignored" */
static void complain(const char *variable, size_t length, const char *why, const struct option *option) {
    char buffer[300];
    struct text text = {buffer, 0, sizeof buffer - 1, -1};
    text_add_bytes(&text, variable, min_size(length, 160));
    for (size_t i = 0; i < text.length; i++) /* nothing that a terminal would obey */
        if (buffer[i] < ' ' || buffer[i] > '~')
            buffer[i] = '?';
    text_add(&text, ": ");
    text_add(&text, why);
    if (option != NULL && option->type == OPTION_NUMBER) {
        text_add_decimal(&text, option->min);
        text_add(&text, " to ");
        text_add_decimal(&text, option->max);
    }
    text_add(&text, "; ignored");
    buffer[text.length] = '\0';
    message_print(buffer);
}

static bool parse_number(const char *string, size_t *value) {
    size_t number = 0;
    if (*string == '\0')
        return false;
    for (; *string >= '0' && *string <= '9'; string++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (size_t)(*string - '0'), &number))
            return false;
    *value = number;
    return *string == '\0';
}

static bool parse_switch(const char *string, size_t *value) {
    static const char *const words[2][4] = {{"0", "no", "off", "false"}, {"1", "yes", "on", "true"}};
    for (size_t yes = 0; yes < 2; yes++) {
        for (size_t i = 0; i < 4; i++) {
            if (strcmp(string, words[yes][i]) == 0) {
                *value = yes;
                return true;
            }
        }
    }
    return false;
}

static void read_value(enum option_id id, const char *variable, const char *string) {
    const struct option *option = &table[id];
    size_t value = 0;
    if (option->type == OPTION_SWITCH) {
        if (parse_switch(string, &value))
            values[id] = value;
        else
            complain(variable, strlen(variable), "not 0 or 1", option);
    } else if (option->type == OPTION_STATS_WORD) {
        values[id] = strcmp(string, "exit") == 0     ? STATS_EXIT
                     : strcmp(string, "signal") == 0 ? STATS_SIGNAL
                                                     : STATS_OFF;
        if (values[id] == STATS_OFF && strcmp(string, "off") != 0)
            complain(variable, strlen(variable), "not off, exit or signal", NULL);
    } else if (parse_number(string, &value) && value >= option->min && value <= option->max) {
        values[id] = value;
    } else {
        complain(variable, strlen(variable), "not a number from ", option);
    }
}

static bool is_name(const char *variable, size_t length, const char *name) {
    return name != NULL && strlen(name) == length && memcmp(variable, name, length) == 0;
}

static void read_variable(const char *variable) {
    size_t length = strcspn(variable, "=");
    bool ours = strncmp(variable, PREFIX, sizeof PREFIX - 1) == 0;
    const char *string = variable[length] == '=' ? variable + length + 1 : "";
    for (int id = 0; id < OPTIONS; id++) {
        if (is_name(variable, length, table[id].alias)) {
            values[id] = 1;
            return;
        }
        if (ours && is_name(variable + sizeof PREFIX - 1, length - (sizeof PREFIX - 1), table[id].name)) {
            read_value(id, variable, string);
            return;
        }
    }
    if (ours)
        complain(variable, length, "unknown option", NULL);
}

void options_boot(char *const *environment) {
    for (int id = 0; id < OPTIONS; id++)
        values[id] = table[id].fallback;
    if (getauxval(AT_SECURE) != 0 || environment == NULL)
        return;
    for (; *environment != NULL; environment++)
        if ((*environment)[0] == PREFIX[0] || (*environment)[0] == 'F')
            read_variable(*environment);
    message_abort_on_misuse(values[OPTION_ABORT] != 0);
}
