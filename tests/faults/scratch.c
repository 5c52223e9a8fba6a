/*
 * Memory for the length of one call: it comes zero and goes back, no count has it, a refusal is said in a line, and a
 * child of fork has that of the forking thread alone.
 */
#include "scratch.h"
#include "cadastre.h"
#include "faults/kernel.h"
#include "os.h"
#include "tap.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#define SIZE ((size_t)20000)

static size_t whole(size_t size) {
    return round_up(size + 64, os_page_size());
}

static void comes_and_goes(void) {
    size_t counted = os_mapped(), peak = os_mapped_peak(), mapped = kernel_mapped;
    char *scratch = scratch_take("test", SIZE);
    bool zero = true;
    for (size_t i = 0; i < SIZE; i++)
        zero &= scratch[i] == 0;
    memset(scratch, 1, SIZE);
    ok(zero, "it is zero");
    ok(kernel_mapped == mapped + whole(SIZE), "and mapped");
    ok(os_mapped() == counted && os_mapped_peak() == peak, "but not counted");
    errno = 1234;
    scratch_give(scratch);
    ok(kernel_mapped == mapped && os_mapped() == counted && errno == 1234, "given back, it is not, and errno stands");
}

static void many_at_once(void) {
    void *scratches[100];
    size_t mapped = kernel_mapped;
    for (size_t i = 0; i < 100; i++)
        memset(scratches[i] = scratch_take("test", 100), (int)i, 100);
    bool kept = true;
    for (size_t i = 0; i < 100; i++)
        for (size_t at = 0; at < 100; at++)
            kept &= ((char *)scratches[i])[at] == (char)i;
    for (size_t i = 0; i < 100; i++)
        scratch_give(scratches[i]);
    ok(kept && kernel_mapped == mapped, "a hundred at once are a hundred, and all go back");
}

/* One is served all the same, and again once it is given back. */
static void refused(void) {
    char line[200] = "";
    int report[2], errors = dup(STDERR_FILENO);
    struct cadastre_stats stats;
    if (pipe(report) != 0 || dup2(report[1], STDERR_FILENO) < 0)
        _exit(3);
    kernel_refuse(KERNEL_MMAP, 1, SIZE_MAX);
    char *first = scratch_take("first", SIZE);
    memset(first, 1, SIZE);
    errno = 0;
    bool is_second = scratch_take("second", SIZE) != NULL;
    int error = errno, result = cadastre_stats(&stats, sizeof stats);
    scratch_give(first);
    char *again = scratch_take("third", SIZE);
    bool zero = again != NULL && again[0] == 0 && again[SIZE - 1] == 0;
    scratch_give(again);
    int served = cadastre_stats(&stats, sizeof stats);
    kernel_refuse(0, 0, 0);
    dup2(errors, STDERR_FILENO);
    ok(first != NULL && zero && served == 0, "refused by the kernel, one call at a time is served");
    ok(!is_second && error == ENOMEM && result == -1, "another is not, with ENOMEM");
    ok(read(report[0], line, sizeof line - 1) > 0 && strstr(line, "cadastre: second: no memory") == line,
       "which a line says: %s", line);
}

/* ------------------------------------------------------------------------------------------------------ fork */
static pthread_barrier_t barrier;

static void *hold(void *unused) {
    void *scratch = scratch_take("test", SCRATCH_MAX);
    (void)unused;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    scratch_give(scratch);
    return NULL;
}

/* Generation after generation forks while another thread has some; gives what is wrong in the last one. */
static int descend(int generations, size_t before) {
    pthread_t thread;
    int status;
    char *own = scratch_take("test", SIZE);
    memset(own, 7, SIZE);
    if (kernel_mapped != before + whole(SIZE))
        return 1;
    if (generations == 0)
        return 0;
    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&thread, NULL, hold, NULL) != 0)
        return 2;
    pthread_barrier_wait(&barrier);
    pid_t child = fork();
    if (child == 0) {
        if (kernel_mapped != before + whole(SIZE))
            _exit(3);
        for (size_t i = 0; i < SIZE; i++)
            if (own[i] != 7)
                _exit(4);
        scratch_give(own);
        _exit(kernel_mapped != before ? 5 : descend(generations - 1, before));
    }
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    scratch_give(own);
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 6;
}

/* What a call has taken is not there any more when it returns. */
static void calls(void) {
    static struct cadastre_arena_stats arena;
    struct cadastre_stats stats;
    struct cadastre_memory mapped, resident;
    int nowhere = open("/dev/null", O_WRONLY);
    struct cadastre_show show = {.size = sizeof show, .fd = nowhere};
    cadastre_stats(&stats, sizeof stats);
    size_t before = kernel_mapped;
    bool worked = true;
    for (int i = 0; i < 10; i++) {
        worked &= cadastre_stats(&stats, sizeof stats) == 0 && stats.mapped.other == 0;
        worked &= cadastre_arena_stats(0, &arena, sizeof arena) == 0;
        worked &= cadastre_arena_stats(1000, &arena, sizeof arena) == -1 && errno == ENOENT;
        worked &= cadastre_resident(&mapped, &resident, sizeof mapped) == 0;
        worked &= cadastre_stats_print(nowhere, CADASTRE_TEXT) == 0;
        worked &= cadastre_stats_print(1000, CADASTRE_TEXT) == -1 && errno == EIO;
        worked &= show_alloc_mem_ex(&show) == 0 && show_alloc_mem_map(nowhere) == 0;
        show_alloc_mem_map(1000);
    }
    ok(worked && kernel_mapped == before, "reports and figures leave nothing mapped (%zu bytes)",
       kernel_mapped - before);
}

int main(void) {
    comes_and_goes();
    many_at_once();
    refused();
    int fault = descend(3, kernel_mapped);
    ok(fault == 0, "a child of fork has the forking thread's, and no other's (%d)", fault);
    calls();
    return tap_done();
}
