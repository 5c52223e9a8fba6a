#ifndef OS_H
#define OS_H

#include <stddef.h>

/* Zeroed memory, or NULL. */
void *os_take(size_t size);

#endif
