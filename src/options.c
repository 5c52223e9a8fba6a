#include "options.h"
#include "config.h"
#include "lock.h"
#include "message.h"
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define PREFIX        "CADASTRE_"
#define PREFIX_LENGTH (sizeof PREFIX - 1)
#define ALIASES_MAX   2
#define PATHS         16
#define PATH_SIZE     4096 /* PATH_MAX of Linux */
#define SHOWN_MAX     160  /* characters of a variable in a complaint */

/* ------------------------------------------------------------------------------------------------ the table */
enum option_type {
    OPTION_NUMBER, /* decimal, or hexadecimal behind 0x */
    OPTION_BYTES,  /* the same; K, M, G behind it */
    OPTION_SWITCH,
    OPTION_WORD,
    OPTION_PATH,
};

/* A malformed alias is ignored without a word, as its owners do: it was meant for another malloc. */
enum alias_kind {
    ALIAS_SETS,    /* means 1 when set, whatever its value: Ft*, and macOS's Malloc* */
    ALIAS_VALUE,   /* has a value of the same meaning: glibc's */
    ALIAS_AT_MOST, /* the same; one above our bound asks for no more than we would give */
};

/* Texts, and not pointers to them, which the dynamic linker would have to relocate, a page of them. */
struct alias {
    char name[20]; /* empty: there is none */
    enum alias_kind kind;
};

struct option {
    char name[16]; /* after PREFIX */
    char help[96];
    char words[20]; /* "first|second", each standing for its place: the values of a word; or of a number, besides those
                     * from min to max */
    struct alias aliases[ALIASES_MAX];
    enum option_type type;
    bool at_run_time;
    size_t min, max; /* of a number */
    size_t fallback; /* but of a path, which is empty */
};

static const struct option table[OPTIONS] = {
    [OPTION_ARENAS] = {.name = "ARENAS",
                       .help =
                           "arenas that threads are spread over; auto: four for each CPU, fewer under a memory limit",
                       .aliases = {{"MALLOC_ARENA_MAX", ALIAS_AT_MOST}},
                       .type = OPTION_NUMBER,
                       .min = 1,
                       .max = ARENAS_MAX,
                       .words = "auto"},
    [OPTION_ABORT] = {.name = "ABORT",
                      .help = "abort on a wrong free, instead of reporting it and going on",
                      .aliases = {{"FtMallocErrorAbort", ALIAS_SETS}, {"MallocErrorAbort", ALIAS_SETS}},
                      .type = OPTION_SWITCH,
                      .at_run_time = true},
    [OPTION_LEAKS] = {.name = "LEAKS",
                      .help = "list the blocks that are live when the process exits",
                      .aliases = {{"FtLeaks", ALIAS_SETS}},
                      .type = OPTION_SWITCH,
                      .at_run_time = true},
    [OPTION_STACKS] = {.name = "STACKS",
                       .help = "frames of the call stack that are recorded for each block",
                       .type = OPTION_NUMBER,
                       .max = 64},
    [OPTION_LOG] = {.name = "LOG",
                    .help = "file for all reports, %p in its name being the process; empty: standard error",
                    .type = OPTION_PATH,
                    .at_run_time = true},
    [OPTION_RELEASE_AT_EXIT] = {.name = "RELEASE_AT_EXIT",
                                .help = "after the last destructor, give all memory back that holds no live block",
                                .type = OPTION_SWITCH,
                                .at_run_time = true},
    [OPTION_SCRIBBLE] = {.name = "SCRIBBLE",
                         .help =
                             "fill blocks with 0xaa when they are taken and 0x55 when freed; report writes after free",
                         .aliases = {{"FtMallocScribble", ALIAS_SETS}, {"MallocScribble", ALIAS_SETS}},
                         .type = OPTION_SWITCH,
                         .at_run_time = true},
    [OPTION_PERTURB] = {.name = "PERTURB",
                        .help =
                            "fill blocks with this byte when they are freed, and its complement when taken; 0: do not",
                        .aliases = {{"MALLOC_PERTURB_", ALIAS_VALUE}},
                        .type = OPTION_NUMBER,
                        .at_run_time = true,
                        .max = UINT8_MAX},
    [OPTION_CANARIES] = {.name = "CANARIES",
                         .help = "report writes between a block's requested size and its end",
                         .type = OPTION_SWITCH},
    [OPTION_GUARD] = {.name = "GUARD",
                      .help = "edges: pages that cannot be touched before and after each LARGE block",
                      .aliases = {{"MallocGuardEdges", ALIAS_SETS}},
                      .type = OPTION_WORD,
                      .words = "off|edges"},
    [OPTION_QUARANTINE] = {.name = "QUARANTINE",
                           .help = "bytes of freed blocks that are held back from being handed out again",
                           .type = OPTION_BYTES,
                           .max = 1024 * 1024 * MIB},
    [OPTION_CHECK_EACH] = {.name = "CHECK_EACH",
                           .help = "operations after which the whole heap is checked again; 0: it is not",
                           .type = OPTION_NUMBER,
                           .at_run_time = true,
                           .max = 1000000000},
    [OPTION_HISTORY] = {.name = "HISTORY",
                        .help = "events (blocks taken and freed) that are remembered",
                        .type = OPTION_NUMBER,
                        .max = 65536},
    [OPTION_STATS] = {.name = "STATS",
                      .help = "print statistics when the process exits, or after SIGUSR2",
                      .type = OPTION_WORD,
                      .words = "off|exit|signal"},
    [OPTION_DEEPBIND] = {.name = "DEEPBIND",
                         .help = "keep: let dlopen(RTLD_DEEPBIND) bind a library to the C library's malloc",
                         .type = OPTION_WORD,
                         .words = "drop|keep"},
    [OPTION_HELP] = {.name = "HELP",
                     .help = "print these lines when the process starts",
                     .aliases = {{"MallocHelp", ALIAS_SETS}},
                     .type = OPTION_SWITCH},
};

/* ----------------------------------------------------------------------------------------------- the values */
#define SOURCE_RUN_TIME 255

static _Atomic size_t values[OPTIONS];
static _Atomic uint8_t sources[OPTIONS];     /* as option_setting's, or SOURCE_RUN_TIME; for options_print only */
static void (*on_change)(enum option_id id); /* constant after boot */

/* Held while an option changes and all that depends on it follows. */
static struct lock change_lock = LOCK_INIT(LOCK_OPTIONS);

/* The text of each path that an option ever had stays in a slot of its own: readers need no lock, and a program that
 * goes to and fro between a few files takes no more. The first slot stands for the empty path. */
SPARSE static char paths[PATHS][PATH_SIZE];
static size_t path_count = 1; /* under change_lock; and what is below it is constant */

size_t option_value(enum option_id id) {
    return load_relaxed(&values[id]);
}

const char *option_text(enum option_id id) {
    size_t slot = load_acquire(&values[id]);
    return slot == 0 ? "" : paths[slot]; /* nearly always, and not a page is touched */
}

/* The slot of `string`, shorter than PATH_SIZE; PATHS: there is none left. */
static size_t keep_path(const char *string) {
    size_t slot = 1;
    if (*string == '\0')
        return 0;
    while (slot < path_count && strcmp(paths[slot], string) != 0)
        slot++;
    if (slot < path_count || slot == PATHS)
        return slot;
    memcpy(paths[slot], string, strlen(string) + 1);
    path_count++;
    return slot;
}

/* At boot, or under change_lock. false: no slot for a path. */
static bool apply(enum option_id id, const struct option_setting *setting, uint8_t source) {
    size_t number = setting->number;
    if (table[id].type == OPTION_PATH) {
        number = keep_path(setting->text);
        if (number == PATHS)
            return false;
    }
    store_release(&values[id], number);
    store_relaxed(&sources[id], source);
    if (id == OPTION_ABORT)
        message_abort_on_misuse(number != 0);
    return true;
}

/* -------------------------------------------------------------------------------------------------- parsing */
/* 16: it is none. */
static unsigned digit_of(char character) {
    if (character >= '0' && character <= '9')
        return (unsigned)(character - '0');
    character |= 0x20; /* lower case */
    return character >= 'a' && character <= 'f' ? (unsigned)(character - 'a' + 10) : 16;
}

/* Leaves *string behind the digits. false: there are none, or too many. */
static bool parse_digits(const char **string, unsigned base, size_t *value) {
    const char *start = *string;
    *value = 0;
    for (unsigned digit; (digit = digit_of(**string)) < base; ++*string)
        if (__builtin_mul_overflow(*value, base, value) || __builtin_add_overflow(*value, digit, value))
            return false;
    return *string != start;
}

static bool parse_number(const struct option *option, const char *string, size_t *value) {
    static const char suffixes[] = "kmg";
    unsigned base = string[0] == '0' && (string[1] | 0x20) == 'x' ? 16 : 10;
    string += base == 16 ? 2 : 0;
    if (!parse_digits(&string, base, value))
        return false;
    if (option->type == OPTION_BYTES && *string != '\0') {
        const char *suffix = strchr(suffixes, *string | 0x20);
        if (suffix == NULL || __builtin_mul_overflow(*value, KIB << 10 * (suffix - suffixes), value))
            return false;
        string++;
    }
    return *string == '\0' && *value >= option->min;
}

/* The place of `string` in "first|second". */
static bool parse_word(const char *words, const char *string, size_t *value) {
    size_t length = strlen(string);
    for (*value = 0; *words != '\0'; ++*value) {
        size_t end = strcspn(words, "|");
        if (end == length && memcmp(words, string, length) == 0)
            return true;
        words += end + (words[end] == '|');
    }
    return false;
}

static bool parse_switch(const char *string, size_t *value) {
    return parse_word("0|1", string, value) || parse_word("no|yes", string, value) ||
           parse_word("off|on", string, value) || parse_word("false|true", string, value);
}

/* A number above the maximum is that, if `clamps`, and malformed otherwise. */
static bool parse_value(const struct option *option, const char *string, bool clamps, struct option_setting *setting) {
    setting->text = "";
    switch (option->type) {
    case OPTION_SWITCH:
        return parse_switch(string, &setting->number);
    case OPTION_PATH:
        setting->text = string;
        setting->number = 0;
        return strlen(string) < PATH_SIZE;
    case OPTION_NUMBER:
    case OPTION_BYTES:
    case OPTION_WORD:
        break;
    }
    if (parse_word(option->words, string, &setting->number))
        return true;
    if (option->type == OPTION_WORD || !parse_number(option, string, &setting->number))
        return false;
    if (clamps)
        setting->number = min_size(setting->number, option->max);
    return setting->number <= option->max;
}

/* Nothing that a terminal would obey. */
static void add_shown(struct text *text, const char *string, size_t length) {
    for (size_t i = 0; i < length; i++)
        text_add_bytes(text, string[i] < ' ' || string[i] > '~' ? "?" : &string[i], 1);
}

static void add_number(struct text *text, const struct option *option, size_t number) {
    static const char suffixes[] = " KMG";
    size_t power = 0;
    while (option->type == OPTION_BYTES && power < 3 && number != 0 && number % KIB == 0) {
        number /= KIB;
        power++;
    }
    text_add_decimal(text, number);
    text_add_bytes(text, &suffixes[power], power != 0);
}

/* What an option may be. */
static void add_domain(struct text *text, const struct option *option) {
    switch (option->type) {
    case OPTION_SWITCH:
        text_add(text, "0 or 1");
        break;
    case OPTION_WORD:
        text_add(text, option->words);
        break;
    case OPTION_PATH:
        text_add(text, "a path of at most ");
        text_add_decimal(text, PATH_SIZE - 1);
        text_add(text, " bytes");
        break;
    case OPTION_NUMBER:
    case OPTION_BYTES:
        text_add(text, option->type == OPTION_BYTES ? "a number of bytes from " : "a number from ");
        add_number(text, option, option->min);
        text_add(text, " to ");
        add_number(text, option, option->max);
        break;
    }
}

struct parser {
    struct option_setting *settings;
    void (*complain)(void *argument, const char *line);
    void *argument;
};

/* `option` NULL: nobody knows the variable, of which `length` characters are shown. */
static void complain(const struct parser *parser, const char *variable, size_t length, const struct option *option) {
    char buffer[320];
    struct text text = {buffer, 0, sizeof buffer - 1, -1};
    add_shown(&text, variable, min_size(length, SHOWN_MAX));
    if (option == NULL) {
        text_add(&text, ": unknown option");
    } else {
        text_add(&text, ": not ");
        add_domain(&text, option);
    }
    text_add(&text, "; ignored");
    buffer[text.length] = '\0';
    parser->complain(parser->argument, buffer);
}

/* Whether the first `length` characters of `variable` are `name`. */
static bool is_name(const char *variable, size_t length, const char *name) {
    return name[0] != '\0' && variable[0] == name[0] && strncmp(variable, name, length) == 0 && name[length] == '\0';
}

/* What is nearer to the option's own name than `source`, and came first, stays. */
static void settle(struct option_setting *setting, struct option_setting found, unsigned source) {
    if (setting->source == 0 || source < setting->source) {
        *setting = found;
        setting->source = source;
    }
}

static void read_ours(const struct parser *parser, const char *variable, size_t length, const char *value) {
    struct option_setting found;
    for (unsigned id = 0; id < OPTIONS; id++) {
        if (!is_name(variable + PREFIX_LENGTH, length - PREFIX_LENGTH, table[id].name))
            continue;
        if (parse_value(&table[id], value, false, &found))
            settle(&parser->settings[id], found, 1);
        else
            complain(parser, variable, strlen(variable), &table[id]);
        return;
    }
    complain(parser, variable, length, NULL);
}

static void read_alias(const struct parser *parser, const char *variable, size_t length, const char *value) {
    for (unsigned id = 0; id < OPTIONS; id++) {
        for (unsigned i = 0; i < ALIASES_MAX; i++) {
            const struct alias *alias = &table[id].aliases[i];
            struct option_setting found = {.number = 1, .text = ""};
            if (!is_name(variable, length, alias->name))
                continue;
            if (alias->kind == ALIAS_SETS || parse_value(&table[id], value, alias->kind == ALIAS_AT_MOST, &found))
                settle(&parser->settings[id], found, 2 + i);
            return;
        }
    }
}

/* The first letters of all names that a variable may have. */
static uint64_t initial(char letter) {
    return UINT64_C(1) << (letter & 63);
}

static uint64_t initials_of_names(void) {
    uint64_t initials = initial(PREFIX[0]);
    for (unsigned id = 0; id < OPTIONS; id++)
        for (unsigned i = 0; i < ALIASES_MAX; i++)
            initials |= initial(table[id].aliases[i].name[0]);
    return initials;
}

/* As strcspn, which is the one thing in a page of the C library's that most programs never need. */
static size_t length_of_name(const char *variable) {
    size_t length = 0;
    while (variable[length] != '=' && variable[length] != '\0')
        length++;
    return length;
}

void options_parse(char *const *environment, struct option_setting *settings,
                   void (*complain_by)(void *argument, const char *line), void *argument) {
    struct parser parser = {settings, complain_by, argument};
    uint64_t initials = initials_of_names();
    for (unsigned id = 0; id < OPTIONS; id++)
        settings[id] = (struct option_setting){.number = table[id].fallback, .text = ""};
    for (; *environment != NULL; environment++) {
        const char *variable = *environment;
        if (LIKELY((initials & initial(variable[0])) == 0))
            continue;
        size_t length = length_of_name(variable);
        const char *value = variable + length + (variable[length] == '=');
        if (strncmp(variable, PREFIX, PREFIX_LENGTH) == 0)
            read_ours(&parser, variable, length, value);
        else
            read_alias(&parser, variable, length, value);
    }
}

/* -------------------------------------------------------------------------------------------------- setting */
static void print_complaint(void *argument, const char *line) {
    (void)argument;
    message_print(line);
}

void options_boot(char *const *environment) {
    static char *const nothing[] = {NULL};
    struct option_setting settings[OPTIONS];
    bool is_secure = getauxval(AT_SECURE) != 0 || environment == NULL;
    options_parse(is_secure ? nothing : environment, settings, print_complaint, NULL);
    for (unsigned id = 0; id < OPTIONS; id++)
        apply(id, &settings[id], (uint8_t)settings[id].source);
    if (option_value(OPTION_HELP) != 0)
        options_print(STDERR_FILENO);
}

void options_on_change(void (*listener)(enum option_id id)) {
    on_change = listener;
}

enum option_id option_find(const char *name) {
    if (strncmp(name, PREFIX, PREFIX_LENGTH) == 0)
        name += PREFIX_LENGTH;
    unsigned id = 0;
    while (id < OPTIONS && strcmp(name, table[id].name) != 0)
        id++;
    return id;
}

int option_change(enum option_id id, const char *value) {
    struct option_setting setting;
    if (!table[id].at_run_time)
        return EPERM;
    if (!parse_value(&table[id], value, false, &setting))
        return EINVAL;
    lock_acquire(&change_lock);
    bool applied = apply(id, &setting, SOURCE_RUN_TIME);
    if (applied && on_change != NULL)
        on_change(id);
    lock_release(&change_lock);
    return applied ? 0 : ENOSPC;
}

void options_lock(void) {
    lock_acquire(&change_lock);
}

void options_unlock(void) {
    lock_release(&change_lock);
}

void options_reset_lock(void) {
    lock_reset(&change_lock);
}

/* ------------------------------------------------------------------------------------------------- printing */

/* The word of a place in "first|second"; false: there are fewer. */
static bool add_word(struct text *text, const char *words, size_t place) {
    for (; *words != '\0'; place--) {
        size_t end = strcspn(words, "|");
        if (place == 0) {
            text_add_bytes(text, words, end);
            return true;
        }
        words += end + (words[end] == '|');
    }
    return false;
}

/* The value of an option that is no path. */
static void add_value(struct text *text, const struct option *option, size_t number) {
    if (!add_word(text, option->words, number))
        add_number(text, option, number);
}

bool option_print(enum option_id id, char *buffer, size_t size) {
    struct text text = {buffer, 0, size, -1};
    if (size == 0)
        return false;
    if (table[id].type == OPTION_PATH)
        text_add(&text, option_text(id));
    else
        add_value(&text, &table[id], option_value(id));
    if (text.length == size)
        return false;
    buffer[text.length] = '\0';
    return true;
}

/* " (from MALLOC_ARENA_MAX; default auto)" */
static void add_source(struct text *text, enum option_id id) {
    const struct option *option = &table[id];
    unsigned source = load_relaxed(&sources[id]);
    text_add(text, " (");
    if (source == SOURCE_RUN_TIME) {
        text_add(text, "set at run time; ");
    } else if (source != 0) {
        text_add(text, "from ");
        text_add(text, source == 1 ? PREFIX : option->aliases[source - 2].name);
        text_add(text, source == 1 ? option->name : "");
        text_add(text, "; ");
    }
    text_add(text, "default");
    if (source != 0 && option->type != OPTION_PATH) {
        text_add(text, " ");
        add_value(text, option, option->fallback);
    }
    text_add(text, ")");
}

static void add_aliases(struct text *text, const struct alias *aliases) {
    for (unsigned i = 0; i < ALIASES_MAX && aliases[i].name[0] != '\0'; i++) {
        text_add(text, i == 0 ? "; also " : ", ");
        text_add(text, aliases[i].name);
        text_add(text, aliases[i].kind == ALIAS_SETS ? " (if set at all)" : "");
    }
}

void options_print(int fd) {
    char buffer[1024];
    struct text text = {buffer, 0, sizeof buffer, fd};
    text_add(&text, "cadastre: the options, as they stand\n");
    for (unsigned id = 0; id < OPTIONS; id++) {
        const struct option *option = &table[id];
        text_add(&text, "  " PREFIX);
        text_add(&text, option->name);
        text_add(&text, "=");
        if (option->type == OPTION_PATH)
            add_shown(&text, option_text(id), strlen(option_text(id)));
        else
            add_value(&text, option, option_value(id));
        add_source(&text, id);
        text_add(&text, "\n      ");
        text_add(&text, option->help);
        text_add(&text, "\n      ");
        if (option->type == OPTION_NUMBER && option->words[0] != '\0') {
            text_add(&text, option->words);
            text_add(&text, ", or ");
        }
        add_domain(&text, option);
        text_add(&text, option->at_run_time ? ", at run time too" : "");
        add_aliases(&text, option->aliases);
        text_add(&text, "\n");
    }
    text_flush(&text);
}
