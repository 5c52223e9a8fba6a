/* Forks while other threads allocate; the children allocate as well. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int ended;

static void *allocate(void *argument) {
    for (size_t i = 0; !ended; i++)
        free(malloc(i % 300000));
    return argument;
}

int main(void) {
    pthread_t threads[3];
    int failed = 0;
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, allocate, NULL) != 0)
            return 1;
    for (int i = 0; i < 50; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            for (size_t size = 1; size < 300000; size += 1000)
                free(malloc(size));
            _exit(0);
        }
        failed += child < 0 || waitpid(child, &status, 0) != child || status != 0;
    }
    ended = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    if (failed > 0)
        printf("%d children failed\n", failed);
    else
        puts("fine");
    return 0;
}
