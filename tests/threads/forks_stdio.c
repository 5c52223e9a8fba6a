/*
 * 10,000 forks against threads in fflush(NULL), getdelim and open_memstream: stdio's locks are held around calls to
 * malloc, and fork takes both. An order that is wrong hangs within seconds; an alarm then ends the test. The buffers
 * grow until they are LARGE, as smaller ones come from a thread's cache most of the time, without any lock.
 */
#include "tap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKS = 10000, AT_ONCE = 20 };

static atomic_int stop;
static atomic_size_t rounds[3];

/* Counts a round. Locks are not fair: without a pause now and then a fork may wait for one many times as long as it
 * takes itself. */
static void end_round(size_t kind) {
    if (atomic_fetch_add(&rounds[kind], 1) % 16 == 0)
        usleep(200);
}

static void *flush_all(void *argument) {
    (void)argument;
    while (!atomic_load(&stop)) {
        fflush(NULL);
        end_round(0);
    }
    return NULL;
}

/* getdelim's buffer grows with the line while the stream is locked. */
static void *read_lines(void *argument) {
    FILE *file = tmpfile();
    (void)argument;
    for (int i = 0; i < 4; i++)
        fprintf(file, "%70000d\n", i);
    while (!atomic_load(&stop)) {
        char *line = NULL;
        size_t size = 0;
        rewind(file);
        while (getdelim(&line, &size, '\n', file) > 0) {
            free(line);
            line = NULL;
            size = 0;
        }
        free(line);
        end_round(1);
    }
    fclose(file);
    return NULL;
}

/* Opening puts a stream on stdio's list, writing grows its buffer, closing takes it off. */
static void *write_memory(void *argument) {
    (void)argument;
    while (!atomic_load(&stop)) {
        char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);
        fprintf(stream, "%70000d", 1);
        fclose(stream);
        free(text);
        end_round(2);
    }
    return NULL;
}

static void hangs(int signal) {
    static const char words[] = "Bail out! fork hangs against stdio\n";
    (void)signal;
    if (write(STDOUT_FILENO, words, sizeof words - 1) < 0)
        _exit(3);
    _exit(2);
}

int main(void) {
    void *(*const work[])(void *) = {flush_all, read_lines, write_memory};
    pthread_t threads[3];
    size_t failed = 0;
    signal(SIGALRM, hangs);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, work[i], NULL);
    for (int done = 0; done < FORKS; done += AT_ONCE) {
        pid_t children[AT_ONCE];
        alarm(60); /* for these */
        for (int i = 0; i < AT_ONCE; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                alarm(30);
                free(malloc(100));
                _exit(0);
            }
        }
        for (int i = 0; i < AT_ONCE; i++) {
            int status = -1;
            while (children[i] > 0 && waitpid(children[i], &status, 0) < 0 && errno == EINTR)
                continue;
            failed += status != 0;
        }
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    diag("meanwhile: %zu fflush(NULL), %zu times 4 lines read by getdelim, %zu memory streams", atomic_load(&rounds[0]),
         atomic_load(&rounds[1]), atomic_load(&rounds[2]));
    ok(failed == 0, "%d forks against stdio, %zu of their children failed", FORKS, failed);
    ok(rounds[0] > 0 && rounds[1] > 0 && rounds[2] > 0, "all three kinds of threads ran meanwhile");
    return tap_done();
}
