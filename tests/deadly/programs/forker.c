/* Forks, with worker.c, while another thread allocates; the worker is there in parent and child. Prints "fine". */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKS = 20 };

void worker_await(void);

static volatile int ended;

static void *allocate(void *argument) {
    for (size_t i = 0; !ended; i++)
        free(malloc(i % 300000));
    return argument;
}

int main(void) {
    pthread_t thread;
    int failed = 0;
    alarm(30); /* where fork waits for a thread that waits for fork */
    pthread_create(&thread, NULL, allocate, NULL);
    for (int i = 0; i < FORKS; i++) {
        int status = -1;
        worker_await();
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            free(malloc(100));
            worker_await();
            _exit(0);
        }
        failed += waitpid(child, &status, 0) != child || status != 0;
    }
    ended = 1;
    pthread_join(thread, NULL);
    if (failed > 0)
        printf("%d children failed\n", failed);
    else
        puts("fine");
    return 0;
}
