/*
 * vfork: the child runs on the parent's memory until it executes a program or ends, and what it allocates, frees and
 * reports is the parent's. By the standard it may not; programs do, and posix_spawn, system and popen are made of it.
 * Other threads allocate all the while.
 */
#include "api/heapmap.h"
#include "cadastre.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <pthread.h>
#include <spawn.h>

enum { THREADS = 3, CHILDREN = 300, BLOCKS = 200 };

static atomic_int stop;

static void *allocate(void *number) {
    struct rng rng = rng_stream(1, (uintptr_t)number);
    while (!atomic_load(&stop)) {
        unsigned char *blocks[BLOCKS];
        size_t sizes[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            sizes[i] = rng_size(&rng);
            blocks[i] = malloc(sizes[i]);
            pattern_write(blocks[i], sizes[i], i);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            check(pattern_holds(blocks[i], sizes[i], i), "a block of %zu bytes changed", sizes[i]);
            free(blocks[i]);
        }
    }
    return NULL;
}

/* What parent and child hand each other. */
static unsigned char *theirs[BLOCKS], *ours[BLOCKS];
static size_t sizes[BLOCKS];

static void take_all(unsigned char **blocks, size_t tag) {
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(sizes[i]);
        pattern_write(blocks[i], sizes[i], tag + i);
    }
}

static void give_all(unsigned char **blocks, size_t tag) {
    for (size_t i = 0; i < BLOCKS; i++) {
        check(pattern_holds(blocks[i], sizes[i], tag + i), "a block of %zu bytes changed", sizes[i]);
        free(blocks[i]);
    }
}

static void children(void) {
    pthread_t threads[THREADS];
    struct rng rng = rng_stream(1, 0);
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, allocate, (void *)(t + 1)) == 0, "no thread");
    for (volatile size_t n = 0; n < CHILDREN; n++) {
        for (size_t i = 0; i < BLOCKS; i++)
            sizes[i] = rng_size(&rng);
        take_all(ours, n);
        pid_t pid = vfork();
        if (pid == 0) {
            give_all(ours, n);
            take_all(theirs, n + 1);
            if (n % 2)
                _exit(0);
            execl("/bin/true", "true", (char *)NULL);
            _exit(127);
        }
        int status = -1;
        check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "the child's status is 0x%x", status);
        give_all(theirs, n + 1);
    }
    for (size_t n = 0; n < CHILDREN / 3; n++) {
        char line[16], *arguments[] = {(char *)"true", NULL};
        pid_t pid;
        int status = -1;
        check(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ) == 0 && waitpid(pid, &status, 0) == pid &&
                  status == 0,
              "posix_spawn: 0x%x", status);
        check(n % 4 || system("true") == 0, "system");
        FILE *pipe = n % 4 ? NULL : popen("echo fine", "r");
        check(n % 4 || (fgets(line, sizeof line, pipe) && strcmp(line, "fine\n") == 0 && pclose(pipe) == 0), "popen");
    }
    atomic_store(&stop, 1);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    struct heapmap map = heapmap_read();
    check(!map.error[0] && map.count <= 2 * THREADS, "%zu blocks are left %s", map.count, map.error);
    expect_silence();
}

static const struct test_case cases[] = {{"children of vfork allocate on their parent's memory", children}};

MAIN_OF_CASES(cases)
