#ifndef BASE_H
#define BASE_H

#include <stddef.h>

static inline size_t round_up(size_t size, size_t to) {
    return (size + to - 1) / to * to;
}

#endif
