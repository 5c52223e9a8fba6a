/* Frees in its last destructor what its first constructor took, having leaked three blocks; and says when that was. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *volatile taken;

__attribute__((constructor)) static void begin(void) {
    taken = malloc(12345);
}

__attribute__((destructor)) static void end(void) {
    free(taken);
    fprintf(stderr, "destructor\n");
}

static __attribute__((noinline)) void leak(void) {
    for (int i = 0; i < 3; i++)
        memset(malloc(1000), 1, 1000);
    __asm__ volatile("" : : : "memory");
}

int main(void) {
    leak();
    return 0;
}
