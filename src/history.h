/*
 * The last events: a ring of what the process asked of the allocator, when CADASTRE_HISTORY switches it on; of one
 * length from the start.
 *
 * Lock-free: a writer takes the next number, and the number's slot says when it is written. What a copy finds half
 * written, or overtaken, it leaves out.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "base.h"

enum history_operation { HISTORY_TAKE, HISTORY_GIVE };

struct history_event {
    uint64_t number; /* from 1, in the order in which they came */
    uintptr_t address;
    size_t size; /* requested */
    uint32_t thread;
    uint16_t arena; /* ARENA_NONE: LARGE */
    uint8_t operation;
};

/* Switches it on, for `count` events; false: no memory. Once, at boot. */
bool history_boot(size_t count);

void history_add(enum history_operation operation, uintptr_t address, size_t size, uint16_t arena, uint32_t thread);

/* One event, if it is still there. The numbers go from history_newest() down, as far as there are any. */
uint64_t history_newest(void);
bool history_read(uint64_t number, struct history_event *event);

size_t history_capacity(void); /* 0: it is off */

/* Its memory, *size bytes long, or NULL. For statistics. */
const void *history_memory(size_t *size);

#endif
