/*
 * glibc's malloc with a planted fault, for scripts/bench --self-test. Compiled three times: in the first every malloc
 * spins for a while, in the second every tenth free does nothing, and the third is what these are compared with.
 */
#include <stdlib.h>

extern void *__libc_malloc(size_t size);
extern void __libc_free(void *block);

void *malloc(size_t size) {
#ifdef PLANTED_delay
    for (volatile int i = 0; i < 1000; i++)
        continue;
#endif
    return __libc_malloc(size);
}

void free(void *block) {
#ifdef PLANTED_leak
    static _Thread_local unsigned frees;
    if (++frees % 10 == 0)
        return;
#endif
    __libc_free(block);
}
