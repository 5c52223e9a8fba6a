/* A library for RTLD_DEEPBIND: it exchanges blocks with the program that opens it. */
#include <stdlib.h>

void *exchange(void *block);

void *exchange(void *block) {
    free(block);
    return malloc(100);
}
