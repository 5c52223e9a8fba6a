/* What the programs and libraries of the early tests share: blocks of every category, written and checked. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 60 };

struct blocks {
    unsigned char *block[BLOCKS];
};

static inline size_t block_size(int i) {
    return i % 20 == 19 ? 100000 + (size_t)i : i % 10 == 9 ? 3000 * (size_t)i : 17 * (size_t)i;
}

static inline void blocks_take(struct blocks *blocks) {
    for (int i = 0; i < BLOCKS; i++) {
        blocks->block[i] = i % 3 ? malloc(block_size(i)) : realloc(calloc(1, 10), block_size(i) + 1);
        memset(blocks->block[i], i + 1, block_size(i));
    }
}

/* Frees them; a program whose blocks do not hold what was written ends here. */
static inline void blocks_give(struct blocks *blocks) {
    for (int i = 0; i < BLOCKS; i++) {
        for (size_t j = 0; j < block_size(i); j++)
            if (blocks->block[i][j] != (unsigned char)(i + 1)) {
                fprintf(stderr, "a block of %zu bytes changed\n", block_size(i));
                abort();
            }
        free(blocks->block[i]);
    }
}

#endif
