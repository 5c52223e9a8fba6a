/*
 * Many misuses: 32 lines, then every 1,000th with the count; whole lines from concurrent threads; and no lock held
 * while a line is written.
 */
#include "cadastre.h"
#include "misuse/guard.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>

static void thirty_two_and_every_thousandth(void) {
    guard_set();
    void *block = malloc(42);
    size_t class = malloc_usable_size(block);
    free(block);
    for (int i = 0; i < 3100; i++)
        free(opaque(block));
    for (int i = 0; i < 32; i++)
        expect_report("free(%p): double free: block of class %zu bytes, arena #", block, class);
    for (int thousands = 1; thousands <= 3; thousands++)
        expect_report("free(%p): double free: block of class %zu bytes, arena # (%d reports so far)", block, class,
                      thousands * 1000);
    expect_silence();
    guard_check();
}

/* Different misuses count together. */
static void all_kinds_count_together(void) {
    char *block = malloc(42), *live = malloc(100);
    free(block);
    for (int i = 0; i < 11; i++) {
        free(opaque(block));
        free(opaque(live + 16));
        if (realloc(opaque(block), 10))
            _exit(1);
    }
    for (int i = 0; i < 32; i++)
        check(next_error(), "only %d reports", i);
    expect_silence();
    free(live);
}

/* ----------------------------------------------------------------------------------- concurrent reports */
enum { THREADS = 8, EACH = 4 };

static void *misuse_a_few_times(void *barrier) {
    char *block = malloc(200);
    pthread_barrier_wait(barrier);
    for (int i = 0; i < EACH; i++)
        free(opaque(block + 8));
    free(block);
    return NULL;
}

/* Standard error is a pipe that keeps each write apart: one write, one line, so that no two can mix. */
static void whole_lines(void) {
    static char lines[THREADS * EACH + 1][1024];
    int ends[2];
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;
    check(pipe2(ends, O_DIRECT | O_NONBLOCK) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 64 * 4096) > 0,
          "no pipe with room for all");
    int errors = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, misuse_a_few_times, &barrier);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    dup2(errors, STDERR_FILENO);
    size_t count = 0;
    while (count < COUNT(lines) && read(ends[0], lines[count], sizeof lines[count] - 1) > 0)
        count++;
    check(count == THREADS * EACH, "%zu writes for %d reports", count, THREADS * EACH);
    for (size_t i = 0; i < count; i++)
        check(matches(lines[i], "cadastre: free(0x@): not the start of a block: 8 bytes into a live block of 200 bytes "
                                "at 0x@, arena #\n"),
              "report: %s", lines[i]);
}

/* ---------------------------------------------------------------------------- no lock held while writing */
static atomic_int reported;

static void *misuse_into_a_full_pipe(void *block) {
    free(opaque((char *)block + 16));
    atomic_store(&reported, 1);
    return NULL;
}

/*
 * Standard error is a full pipe: the thread that reports sleeps in write(2). Meanwhile this thread allocates of every
 * category, walks the heap and misuses nothing; only then is the pipe read. One arena, so that both share its lock.
 */
static void no_lock_held(void) {
    static void *blocks[3000];
    static char bytes[1 << 16];
    int ends[2];
    pthread_t thread;
    char *block = malloc(100);
    check(pipe2(ends, O_NONBLOCK) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 0, "no pipe");
    while (write(ends[1], bytes, 4096) > 0 || write(ends[1], bytes, 1) > 0)
        continue;
    fcntl(ends[1], F_SETFL, 0);
    dup2(ends[1], STDERR_FILENO);
    pthread_create(&thread, NULL, misuse_into_a_full_pipe, block);
    usleep(100000); /* long enough for it to be in write(2), in most runs */
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = malloc(i % 100 == 99 ? 100000 : i);
    struct heapmap map = heapmap_read();
    check(map.count >= COUNT(blocks), "show_alloc_mem lists %zu blocks", map.count);
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
    check(!atomic_load(&reported), "the report did not go into the full pipe");
    size_t read_bytes = 0;
    ssize_t n;
    while (!atomic_load(&reported) || read_bytes == 0) {
        n = read(ends[0], bytes, sizeof bytes);
        read_bytes += n > 0 ? (size_t)n : 0;
    }
    pthread_join(thread, NULL);
}

static const struct test_case cases[] = {
    {"32 lines, then every 1,000th with the count", thirty_two_and_every_thousandth},
    {"all kinds of misuse count together", all_kinds_count_together},
    {"reports of several threads are whole lines", whole_lines},
    {"no lock is held while a report is written", no_lock_held},
};

int main(int argc, char **argv) {
    static const char *const one_arena[] = {"CADASTRE_ARENAS=1", NULL};
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(cases); i++)
        ok_case(cases[i].name, one_arena, NULL);
    return tap_done();
}
