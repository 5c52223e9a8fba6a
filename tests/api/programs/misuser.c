/*
 * Frees a block twice and goes on. Prints whether the kernel runs it in secure mode. Linked statically by secure.t.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

int main(void) {
    void *volatile block = malloc(100);
    printf("secure %lu\n", getauxval(AT_SECURE));
    fflush(stdout);
    free(block);
    free(block);
    puts("went on");
    return 0;
}
