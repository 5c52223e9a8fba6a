/* A library for RTLD_DEEPBIND: it exchanges blocks with the program that opens it, and says whose malloc it has. */
#include <stdlib.h>

void *exchange(void *block);

extern void *(*taker)(size_t);
void *(*taker)(size_t) = malloc;

void *exchange(void *block) {
    free(block);
    return malloc(100);
}
