/* A library with a thread-local variable. */
#include <stddef.h>

static __thread char variable[100];

char *touch(size_t);

char *touch(size_t at) {
    return &variable[at];
}
