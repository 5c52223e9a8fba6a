/*
 * A program of the C library's own malloc that opens the library while it runs (path as argument): both allocators go
 * side by side, on threads and through forks, and neither takes the other's blocks. Prints "fine".
 */
#include "blocks.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void *(*their_malloc)(size_t);
static void (*their_free)(void *);

static void *use_both(void *argument) {
    struct blocks blocks;
    unsigned char *theirs[BLOCKS];
    blocks_take(&blocks);
    for (int i = 0; i < BLOCKS; i++)
        memset(theirs[i] = their_malloc(block_size(i)), 100 + i, block_size(i));
    blocks_give(&blocks);
    for (int i = 0; i < BLOCKS; i++) {
        for (size_t j = 0; j < block_size(i); j++)
            if (theirs[i][j] != 100 + i)
                abort();
        their_free(theirs[i]);
    }
    return argument;
}

int main(int argc, char **argv) {
    pthread_t threads[4];
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&their_malloc = dlsym(library, "cadastre_malloc");
    *(void **)&their_free = dlsym(library, "cadastre_free");
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, use_both, NULL);
        use_both(NULL);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        pid_t pid = fork();
        if (pid == 0)
            _exit(use_both(&pid) ? 0 : 1);
        int status = -1;
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return 1;
    }
    void *kept = their_malloc(1000);
    dlclose(library); /* it stays: its blocks, threads' caches and fork handlers do */
    use_both(NULL);
    their_free(kept);
    puts("fine");
    return 0;
}
