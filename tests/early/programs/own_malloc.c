/* For closer_host.c, to be linked with the archive and bound to it: it takes and frees blocks of all kinds. */
#include <stdlib.h>
#include <string.h>

int work(void);
extern size_t cadastre_malloc_usable_size(void *block);

/* 1: every block was had, and of the malloc inside. */
int work(void) {
    char *blocks[100];
    int had = 1;
    for (size_t i = 0; i < 100; i++) {
        had &= (blocks[i] = malloc(100 + i * 1000)) != NULL && cadastre_malloc_usable_size(blocks[i]) >= 100;
        if (blocks[i])
            memset(blocks[i], 1, 100);
    }
    for (size_t i = 0; i < 100; i++)
        free(blocks[i]);
    return had;
}
