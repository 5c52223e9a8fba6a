/*
 * The options: one table, read from the environment at boot, some of them changeable while the process runs. Under
 * AT_SECURE (a setuid program) all of the environment is ignored.
 *
 * Every option has a number: a switch's is 0 or 1, a word's its place among the option's words, a path's that of the
 * slot where its text is kept.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "base.h"

enum option_id {
    OPTION_ARENAS,          /* number of arenas, 0: by CPUs and limits */
    OPTION_ABORT,           /* abort on misuse */
    OPTION_LEAKS,           /* list what is live at exit */
    OPTION_STACKS,          /* frames recorded of each block's stack, 0: none */
    OPTION_LOG,             /* path, %p in it is the process; empty: standard error */
    OPTION_RELEASE_AT_EXIT, /* give back what is empty */
    OPTION_SCRIBBLE,        /* 0xaa into new blocks, 0x55 into freed ones */
    OPTION_PERTURB,         /* a byte to fill blocks with, 0: none */
    OPTION_CANARIES,        /* check what follows a block */
    OPTION_GUARD,           /* enum option_guard */
    OPTION_QUARANTINE,      /* bytes of freed blocks to hold back */
    OPTION_CHECK_EACH,      /* operations between two checks of the heap, 0: no check */
    OPTION_HISTORY,         /* events that are kept */
    OPTION_STATS,           /* enum option_stats */
    OPTION_DEEPBIND,        /* enum option_deepbind */
    OPTION_HELP,            /* print the options */
    OPTIONS,
};

enum option_guard { GUARD_OFF, GUARD_EDGES };
enum option_deepbind { DEEPBIND_DROP, DEEPBIND_KEEP };
enum option_stats { STATS_OFF, STATS_EXIT, STATS_SIGNAL };

/* ------------------------------------------------------------------------------------------------- reading */

/* The number, the text of a path: those of now. The text stands for good, even when the option is changed. From any
 * thread, under any lock, in a signal handler; before boot 0, and the empty text. */
size_t option_value(enum option_id id);
const char *option_text(enum option_id id);

/* ------------------------------------------------------------------------------------------------- setting */

/* Takes the options from CADASTRE_* and the aliases; a malformed or unknown one is reported in one line and ignored.
 * Prints them all if that is asked for. While the process has one thread. */
void options_boot(char *const *environment);

/* Called after each change at run time by the thread that makes it; changes are made one at a time. Once, at boot. */
void options_on_change(void (*listener)(enum option_id id));

/* By its name, with or without "CADASTRE_"; OPTIONS: there is none. */
enum option_id option_find(const char *name);

/* Changes one while the process runs: 0, or EPERM (only a fresh start can), EINVAL (malformed), ENOSPC (there is no
 * slot for one more path). From any thread, with no lock held. */
int option_change(enum option_id id, const char *value);

/* For fork. */
void options_lock(void);
void options_unlock(void);
void options_reset_lock(void);

/* The value as option_change would take it, 0-terminated; false: it is longer than that. */
bool option_print(enum option_id id, char *buffer, size_t size);

/* All options to `fd`: value, where it comes from, default, help. */
void options_print(int fd);

/* ------------------------------------------------------------------------------------------------- parsing */

/* What an environment says of one option. */
struct option_setting {
    size_t number;
    const char *text; /* of a path: a part of the environment */
    unsigned source;  /* 0: the default, 1: the name, 2 and above: the aliases */
};

/*
 * Of `environment`, NULL-terminated, and nothing else: `settings` has OPTIONS places, `complain` is called with
 * `argument` and a line for each malformed or unknown variable. An option's name wins over its aliases, and these in
 * their order; of two variables with one name the first counts, as for getenv. One that is malformed counts as not set.
 */
void options_parse(char *const *environment, struct option_setting *settings,
                   void (*complain)(void *argument, const char *line), void *argument);

#endif
