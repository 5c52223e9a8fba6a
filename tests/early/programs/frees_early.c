/* Takes and frees small blocks before the allocator's constructor has run. */
#include <stdlib.h>

static __attribute__((constructor)) void leave_blocks_cached(void) {
    void *blocks[6];
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        blocks[i] = malloc(8);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
}
