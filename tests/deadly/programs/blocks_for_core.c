/* Holds blocks of every category, each with a text in it, and waits with its threads to be dumped. Prints "ready". */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { THREADS = 4, BLOCKS = 20000 };

extern char *tiny, *small, *large, *of_a_thread, *many[BLOCKS];
char *tiny, *small, *large, *of_a_thread, *many[BLOCKS];

static pthread_barrier_t all;

static char *block_of(size_t size, const char *text) {
    char *block = malloc(size);
    strcpy(block, text);
    return block;
}

static void *wait_inside(void *argument) {
    of_a_thread = block_of(100, "a thread's block");
    pthread_barrier_wait(&all);
    sleep(60);
    return argument;
}

int main(void) {
    pthread_t thread;
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread, NULL, wait_inside, NULL);
    for (size_t i = 0; i < BLOCKS; i++)
        many[i] = memset(malloc(1 + i % 3000), 1, 1 + i % 3000);
    for (size_t i = 0; i < BLOCKS; i += 2)
        free(many[i]);
    tiny = block_of(42, "a TINY block");
    small = block_of(5000, "a SMALL block");
    large = block_of(3000000, "a LARGE block");
    pthread_barrier_wait(&all);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    puts("ready");
    fflush(stdout);
    sleep(60);
    return 0;
}
