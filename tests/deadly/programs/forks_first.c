/*
 * A library that initialises before all others: its constructor forks, once before anything was allocated, and then
 * while threads that it starts make their first malloc, all before the allocator's constructor has run. The children
 * allocate on threads of their own; one that hangs is ended by its alarm.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, FORKS = 5, BLOCKS = 300 };

static void *allocate(void *argument) {
    unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(i % 100 == 0 ? 100000 : i * 30);
        memset(blocks[i], (int)i, i * 30);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i > 0 && blocks[i][i * 30 - 1] != (unsigned char)i)
            abort();
        free(blocks[i]);
    }
    return argument;
}

static void child(void) {
    pthread_t thread;
    alarm(20);
    if (pthread_create(&thread, NULL, allocate, NULL) != 0)
        _exit(1);
    allocate(NULL);
    pthread_join(thread, NULL);
    _exit(0);
}

static void fork_children(pid_t *children, int count) {
    for (int i = 0; i < count; i++) {
        children[i] = fork();
        if (children[i] == 0)
            child();
    }
}

static void await_children(const pid_t *children, int count) {
    for (int i = 0; i < count; i++) {
        int status = -1;
        if (waitpid(children[i], &status, 0) != children[i] || status != 0)
            printf("a child's wait status is 0x%x\n", status);
    }
}

static __attribute__((constructor)) void race(void) {
    pthread_t threads[THREADS];
    pid_t children[FORKS];
    fork_children(children, 1);
    await_children(children, 1);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, allocate, NULL) != 0)
            abort();
    fork_children(children, FORKS);
    await_children(children, FORKS);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}
