/*
 * Registers a handler of fork that starts a thread, and opens the allocator (path as argument) only then: the handler
 * comes first in the child, and its thread has to wait for the allocator's. Prints "fine".
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKS = 10, BLOCKS = 300 };

static void *(*their_malloc)(size_t);
static void (*their_free)(void *);
static pthread_t worker;

static void *allocate(void *argument) {
    for (size_t i = 0; i < BLOCKS; i++)
        their_free(their_malloc(i * 1000));
    return argument;
}

static void start_in_child(void) {
    alarm(20);
    if (pthread_create(&worker, NULL, allocate, NULL) != 0)
        abort();
    usleep(10000); /* it comes to wait meanwhile */
}

int main(int argc, char **argv) {
    int failed = 0;
    pthread_atfork(NULL, NULL, start_in_child);
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!library) {
        puts(dlerror());
        return 1;
    }
    *(void **)&their_malloc = dlsym(library, "cadastre_malloc");
    *(void **)&their_free = dlsym(library, "cadastre_free");
    allocate(NULL);
    for (int i = 0; i < FORKS && !failed; i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            allocate(NULL);
            pthread_join(worker, NULL);
            _exit(0);
        }
        failed = waitpid(child, &status, 0) != child || status != 0;
    }
    puts(failed ? "a child failed" : "fine");
    return 0;
}
