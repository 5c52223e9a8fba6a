#ifndef ARENA_H
#define ARENA_H

#include <stddef.h>

void *arena_refill(size_t size);

#endif
