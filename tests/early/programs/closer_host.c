/*
 * Opens a library that has a malloc of its own inside, again and again; has it work, also in threads that end after it
 * was closed; forks after that, and exits. Prints "fine" if all of it goes well.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 30 };

static pthread_barrier_t barrier;
static int (*work)(void);

static void *worker(void *argument) {
    int worked = work();
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* the library has been closed */
    return worked ? argument : NULL;
}

static int forks(void) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static int open_and_close(const char *path) {
    pthread_t thread;
    void *worked = NULL, *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    work = library ? (int (*)(void))dlsym(library, "work") : NULL;
    if (!work || !work())
        return 0;
    pthread_create(&thread, NULL, worker, &barrier);
    pthread_barrier_wait(&barrier);
    dlclose(library);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, &worked);
    return worked && forks();
}

int main(int argc, char **argv) {
    int rounds = 0;
    pthread_barrier_init(&barrier, NULL, 2);
    while (argc > 1 && rounds < ROUNDS && open_and_close(argv[1]))
        rounds++;
    puts(rounds == ROUNDS ? "fine" : "it did not work");
    return 0;
}
