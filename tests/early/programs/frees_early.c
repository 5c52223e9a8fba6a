/* Takes and frees small blocks before the allocator's constructor has run, of the class that this takes some of. */
#include <stdlib.h>

static __attribute__((constructor)) void leave_blocks_cached(void) {
    void *blocks[6];
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        blocks[i] = malloc(32);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}
