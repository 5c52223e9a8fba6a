/*
 * The options: one table, read once from the environment at boot. Under AT_SECURE (a setuid program) all of the
 * environment is ignored.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "base.h"

enum option_id {
    OPTION_ARENAS, /* number of arenas, 0: by CPUs and limits */
    OPTION_ABORT,  /* abort on misuse */
    OPTION_STATS,  /* enum option_stats */
    OPTIONS,
};

enum option_stats { STATS_OFF, STATS_EXIT, STATS_SIGNAL };

/* Reads CADASTRE_* and the aliases. A malformed or unknown one is reported in one line and ignored. */
void options_boot(char *const *environment);

size_t option_value(enum option_id id);

#endif
