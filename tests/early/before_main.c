/*
 * Calls before main: from .preinit_array, before any constructor has run, the library's own among them; and from the
 * program's constructors, the earliest priority first. What they allocated is used in main and after it.
 */
#include "api/heapmap.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>

enum { STAGES = 3, BLOCKS = 200 };

static const char *const stage_names[STAGES] = {".preinit_array", "constructor of priority 101", "constructor"};

/* What a stage did; looked at in main, where there is somewhere to report to. */
static struct {
    int ran, right;
    unsigned char *blocks[BLOCKS];
    size_t sizes[BLOCKS];
} stages[STAGES];

static int use_every_name(void) {
    void *aligned = NULL;
    unsigned char *block = malloc(100), *zeros = calloc(10, 100), *large = malloc(300000);
    int right = block && zeros && large && zeros[0] == 0 && zeros[999] == 0;
    right &= posix_memalign(&aligned, 256, 1000) == 0 && (uintptr_t)aligned % 256 == 0;
    right &= malloc_usable_size(block) >= 100 && cadastre_malloc_usable_size(large) >= 300000;
    memset(large, 1, 300000);
    block = realloc(block, 20000);
    large = realloc(large, 1000);
    right &= block && large && large[999] == 1;
    free(block), free(zeros), free(large), free(aligned);
    return right;
}

static void run_stage(int number) {
    struct rng rng = rng_stream(1, (uint64_t)number);
    stages[number].ran = 1;
    stages[number].right = use_every_name();
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = rng_size(&rng);
        stages[number].sizes[i] = size;
        stages[number].blocks[i] = malloc(size);
        stages[number].right &= stages[number].blocks[i] != NULL;
        pattern_write(stages[number].blocks[i], size, i);
    }
    for (size_t i = 0; i < BLOCKS; i += 2) { /* half of them are freed where they were made */
        stages[number].right &= pattern_holds(stages[number].blocks[i], stages[number].sizes[i], i);
        free(stages[number].blocks[i]);
    }
}

static void preinit(void) {
    run_stage(0);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = preinit;

__attribute__((constructor(101))) static void first_constructor(void) {
    run_stage(1);
}

__attribute__((constructor)) static void constructor(void) {
    run_stage(2);
}

static void *on_a_thread(void *argument) {
    return use_every_name() ? NULL : argument;
}

int main(void) {
    struct heapmap map = heapmap_read();
    ok(!map.error[0], "the register is well-formed %s", map.error);
    for (int number = 0; number < STAGES; number++) {
        int right = stages[number].right, listed = 1;
        for (size_t i = 1; i < BLOCKS; i += 2) {
            listed &= heapmap_shows(&map, stages[number].blocks[i], stages[number].sizes[i]);
            right &= pattern_holds(stages[number].blocks[i], stages[number].sizes[i], i);
            stages[number].blocks[i] = realloc(stages[number].blocks[i], stages[number].sizes[i] + 100);
            free(stages[number].blocks[i]);
        }
        ok(stages[number].ran && right, "%s: allocates, and what it left is there in main", stage_names[number]);
        ok(listed, "%s: the register shows it", stage_names[number]);
    }
    map = heapmap_read();
    ok(map.count == 0, "all of it can be freed in main: %zu blocks live", map.count);

    pthread_t thread;
    void *result = &map;
    pthread_create(&thread, NULL, on_a_thread, &map);
    pthread_join(thread, &result);
    ok(result == NULL, "threads work as ever");
    pid_t pid = fork();
    if (pid == 0)
        _exit(use_every_name() ? 0 : 1);
    int status = -1;
    waitpid(pid, &status, 0);
    ok(status == 0, "and forks");
    return tap_done();
}
