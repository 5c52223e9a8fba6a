/*
 * Every system call of several scenarios is refused: each in turn, all from some on, and all of one kind. No refusal
 * may crash or hang; a request that cannot be met is NULL with ENOMEM; contents stay; shrinking never fails. Afterwards
 * the heap is valid, what was freed can be had again, and nothing is mapped that nobody knows of.
 */
#include "arenas.h"
#include "cadastre.h"
#include "config.h"
#include "faults/kernel.h"
#include "leaks.h"
#include "misuse/child.h"
#include "os.h"
#include "process.h"
#include "threads/random.h"

#include <fcntl.h>
#include <pthread.h>

/* ------------------------------------------------------------------------------------------------ scenarios */
enum { BLOCKS = 120 };

static struct held {
    unsigned char *block;
    size_t size;
} held[BLOCKS];

/* What a request gave: NULL only with ENOMEM. */
static void *allowed(void *block) {
    check(block != NULL || errno == ENOMEM, "NULL with errno %d", errno);
    return block;
}

static void hold(size_t i, unsigned char *block, size_t size) {
    held[i] = (struct held){block, block == NULL ? 0 : size};
    pattern_write(block, held[i].size, i);
}

static void let_go(size_t i) {
    check(pattern_holds(held[i].block, held[i].size, i), "a block of %zu bytes changed", held[i].size);
    cadastre_free(held[i].block);
    held[i].block = NULL;
    held[i].size = 0;
}

static void let_all_go(void) {
    for (size_t i = 0; i < BLOCKS; i++)
        let_go(i);
}

static void resize(size_t i, size_t size) {
    unsigned char *block = cadastre_realloc(held[i].block, size);
    if (block == NULL) {
        check(size > held[i].size && errno == ENOMEM, "realloc from %zu to %zu: errno %d", held[i].size, size, errno);
        return;
    }
    for (size_t at = 0; at < min_size(min_size(size, held[i].size), 256); at++)
        check(block[at] == pattern_at(i, at), "realloc from %zu to %zu lost contents", held[i].size, size);
    hold(i, block, size);
}

static size_t size_of(size_t i) {
    static const size_t sizes[] = {24, 500, 1024, 5000, 40000, SMALL_MAX, 70000, 300000, 5000000};
    return sizes[i % 9] + i % 7;
}

/* The first calls there are: boot is refused as well. */
static void boot(void) {
    for (size_t i = 0; i < 9; i++)
        hold(i, allowed(cadastre_malloc(size_of(i))), size_of(i));
}

/* Every way to take, resize and give back a block of every category. */
static void life(void) {
    size_t count = process_debugs ? 30 : BLOCKS; /* each fills and checks all of its bytes */
    for (size_t i = 0; i < count; i++) {
        unsigned char *block =
            i % 5 == 0 ? allowed(cadastre_aligned_alloc(256, size_of(i))) : allowed(cadastre_calloc(1, size_of(i)));
        for (size_t at = 0; i % 5 != 0 && block != NULL && at < size_of(i); at += 64)
            check(block[at] == 0, "calloc gave a byte that is not 0");
        hold(i, block, size_of(i));
    }
    for (size_t i = 0; i < count; i++)
        resize(i, size_of(i + 4));
    for (size_t i = 0; i < count; i++)
        if (held[i].block != NULL)
            resize(i, held[i].size / 3 * 2);
    for (size_t i = 0; i < count; i += 2)
        let_go(i);
    arenas_purge_all();
    for (size_t i = 0; i < count; i += 2)
        hold(i, allowed(cadastre_malloc(size_of(i + 1))), size_of(i + 1));
}

/* LARGE blocks in each other's way: in place, by moving pages, by copying, and back. */
static void growth(void) {
    for (size_t i = 0; i < 6; i++)
        hold(i, allowed(cadastre_malloc(70000 + 5000 * i)), 70000 + 5000 * i);
    for (size_t size = 100000; size < 12 * MIB; size += size / 2)
        for (size_t i = 0; i < 6; i += 2)
            resize(i, size + i);
    hold(6, allowed(cadastre_memalign(MIB, 300000)), 300000);
    hold(7, allowed(cadastre_memalign(4 * MIB, 5 * MIB)), 5 * MIB);
    for (size_t size = 6 * MIB; size > 1000; size /= 3)
        for (size_t i = 0; i < 8; i++)
            if (held[i].size > size)
                resize(i, size);
}

/* More becomes empty than may be retained, of one kind after the other: it is purged, unmapped, put to other use. */
static void retention(void) {
    static void *blocks[18 * MIB / 900];
    static const size_t sizes[] = {1000, 30000, 150000, 5 * MIB, 900};
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t count = 18 * MIB / sizes[s];
        for (size_t i = 0; i < count; i++)
            blocks[i] = allowed(cadastre_malloc(sizes[s]));
        for (size_t i = 0; i < count; i++)
            cadastre_free(blocks[i]);
    }
}

/* Waves of threads that free what others took, exit, and leave their caches to those that come. */
enum { THREADS = 4, EACH = BLOCKS / THREADS };

static pthread_barrier_t all;

static void *take_and_give(void *argument) {
    size_t me = (size_t)(uintptr_t)argument;
    size_t other = (me + 1) % THREADS;
    for (size_t i = me * EACH; i < (me + 1) * EACH; i++)
        hold(i, allowed(cadastre_malloc(size_of(i) % 100000)), size_of(i) % 100000);
    pthread_barrier_wait(&all);
    for (size_t i = other * EACH; i < (other + 1) * EACH; i++)
        let_go(i);
    return NULL;
}

static void threads(void) {
    pthread_t ids[THREADS];
    pthread_barrier_init(&all, NULL, THREADS);
    for (int wave = 0; wave < 2; wave++) {
        for (size_t i = 0; i < THREADS; i++)
            check(pthread_create(&ids[i], NULL, take_and_give, (void *)i) == 0, "no thread");
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(ids[i], NULL);
    }
}

static void is_as_it_was(void);

/* Child and parent go on alike. */
static void forks(void) {
    int status = -1;
    boot();
    pid_t pid = fork();
    check(pid >= 0, "no fork");
    resize(3, 100);
    resize(4, 200000);
    if (pid == 0) {
        let_all_go();
        threads();
        is_as_it_was();
        _exit(0);
    }
    check(waitpid(pid, &status, 0) == pid && status == 0, "the child ended with status 0x%x", status);
}

/* What looks at the heap, with something in it. */
static int count_block(void *argument, const cadastre_block *block) {
    *(size_t *)argument += block->size;
    return 0;
}

static void views(void) {
    struct cadastre_memory mapped, resident;
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const struct cadastre_show everything = {.size = sizeof everything, .fd = nowhere, .hexdump = 100};
    size_t bytes = 0, expected = 0;
    life();
    for (size_t i = 0; i < BLOCKS; i++)
        expected += held[i].size;
    check(cadastre_walk(count_block, &bytes) == 0 && bytes == expected, "the walk finds %zu bytes of %zu", bytes,
          expected);
    check(show_alloc_mem_ex(&everything) == 0, "show_alloc_mem_ex failed");
    check(show_alloc_mem_map(nowhere) == 0, "show_alloc_mem_map failed");
    check(cadastre_stats_print(nowhere, CADASTRE_JSON) == 0, "cadastre_stats_print failed");
    check(cadastre_resident(&mapped, &resident, sizeof mapped) == 0 && mapped.live == expected,
          "%zu bytes are said to be live, not %zu", (size_t)mapped.live, expected);
    check(resident.live <= mapped.live, "more is resident than mapped");
    cadastre_option_set("LOG", "/dev/null");
    leaks_report();
    close(nowhere);
}

#define ALL_MODES                                                                                                      \
    "CADASTRE_SCRIBBLE=1", "CADASTRE_CANARIES=1", "CADASTRE_QUARANTINE=300K", "CADASTRE_GUARD=edges",                  \
        "CADASTRE_HISTORY=100", "CADASTRE_STACKS=6"

static const struct scenario {
    const char *name;
    void (*run)(void);
    bool has_threads;       /* the C library maps stacks for them, and keeps some */
    const char *options[8]; /* with any, a process of its own executes: its boot is a part of the scenario */
} scenarios[] = {
    {"boot", boot, false, {"CADASTRE_ARENAS=4"}},
    {"the life of blocks", life, false, {NULL}},
    {"growth of LARGE blocks", growth, false, {NULL}},
    {"retention", retention, false, {NULL}},
    {"threads", threads, true, {"CADASTRE_ARENAS=3"}},
    {"fork", forks, true, {NULL}},
    {"views and reports", views, false, {NULL}},
    {"debugging modes", views, false, {"CADASTRE_LOG=/dev/null", ALL_MODES}},
    {"threads in debugging modes", threads, true, {"CADASTRE_LOG=/dev/null", ALL_MODES}},
};

/* ------------------------------------------------------------------------------------------------ afterwards */

/* What was just freed is there again, whatever the kernel says. */
static void freed_is_had_again(size_t size) {
    static void *blocks[4096];
    size_t count = min_size(COUNT(blocks), MIB / size);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = cadastre_malloc(size);
        check(blocks[i] != NULL, "no %zu bytes although the kernel gives again", size);
        memset(blocks[i], 1, size);
    }
    for (size_t i = 0; i < count; i++)
        cadastre_free(blocks[i]);
    kernel_refuse(KERNEL_ALL, 1, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = cadastre_calloc(1, size);
        check(blocks[i] != NULL, "block %zu of %zu bytes was freed, and cannot be had again", i, size);
        for (size_t at = 0; at < size; at++)
            check(((char *)blocks[i])[at] == 0, "calloc gave a byte that is not 0");
    }
    for (size_t i = 0; i < count; i++)
        cadastre_free(blocks[i]);
    kernel_give_again();
}

static void is_as_it_was(void) {
    static const size_t sizes[] = {16, 1000, 5000, SMALL_MAX, 100000};
    struct cadastre_stats stats;
    size_t stuck = atomic_load(&kernel_stuck); /* later refusals are made good again */
    kernel_give_again();
    let_all_go();
    for (size_t i = 0; i < COUNT(sizes) && !process_debugs; i++) /* with guards, mappings go at once */
        freed_is_had_again(sizes[i]);
    check(cadastre_check() == 0, "the heap contradicts itself");
    process_drain();
    arenas_purge_all();
    check(cadastre_check() == 0, "the heap contradicts itself when all is given back");
    cadastre_stats(&stats, sizeof stats);
    const struct cadastre_memory *mapped = &stats.mapped;
    check(stats.live_blocks == 0, "%zu blocks are live", (size_t)stats.live_blocks);
    check(atomic_load(&kernel_mapped) == mapped->total, "%zu bytes are mapped, and %zu known of",
          atomic_load(&kernel_mapped), (size_t)mapped->total);
    check(mapped->other <= stuck, "nothing is known of %zu bytes", (size_t)mapped->other);
    check(process_debugs || mapped->headers + mapped->idle + mapped->retained == 0,
          "%zu bytes of zones and spans are not given back", (size_t)(mapped->total - mapped->metadata));
}

/* ------------------------------------------------------------------------------------------------- processes */
struct plan {
    unsigned kinds;
    size_t first, last;
};

/* All that the process has mapped. */
static size_t address_space(void) {
    char text[32] = "";
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    check(read(file, text, sizeof text - 1) > 0, "no /proc/self/statm");
    close(file);
    return strtoull(text, NULL, 10) * os_page_size();
}

/* In a process of its own. How many calls of the planned kinds there were goes to the descriptor. */
static void run(const struct scenario *scenario, int report) {
    alarm(120);
    size_t others = address_space() - atomic_load(&kernel_mapped);
    scenario->run();
    size_t calls = atomic_load(&kernel_calls);
    is_as_it_was();
    check(scenario->has_threads || address_space() - atomic_load(&kernel_mapped) == others,
          "the kernel counts %zu bytes more than there should be", address_space() - others);
    _exit(write(report, &calls, sizeof calls) == sizeof calls ? 0 : 1);
}

static void execute(const struct scenario *scenario, struct plan plan, int report) {
    char numbers[5][24];
    char *arguments[] = {(char *)"scenario", numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], NULL};
    size_t values[] = {(size_t)(scenario - scenarios), plan.kinds, plan.first, plan.last, (size_t)report};
    for (size_t i = 0; i < COUNT(values); i++)
        snprintf(numbers[i], sizeof numbers[i], "%zu", values[i]);
    execve("/proc/self/exe", arguments, (char **)scenario->options);
    _exit(127);
}

/* The plan stands before the library boots, in its constructor of priority 101. */
#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
__attribute__((constructor(100))) static void begin(int argc, char **argv) {
    if (argc == 6)
        kernel_refuse((unsigned)strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
}

/* Whether all went well; *calls becomes the number of calls of the planned kinds. */
static bool survives(const struct scenario *scenario, struct plan plan, size_t *calls) {
    int report[2], status = -1;
    if (pipe(report) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        if (scenario->options[0] != NULL)
            execute(scenario, plan, report[1]);
        kernel_refuse(plan.kinds, plan.first, plan.last);
        run(scenario, report[1]);
    }
    close(report[1]);
    *calls = 0;
    bool told = read(report[0], calls, sizeof *calls) == sizeof *calls;
    close(report[0]);
    waitpid(pid, &status, 0);
    if (status != 0 || !told)
        diag("%s: calls %zu to %zu of kinds %u refused: wait status 0x%x", scenario->name, plan.first, plan.last,
             plan.kinds, status);
    return status == 0 && told;
}

static void walk(const struct scenario *scenario) {
    size_t calls, ignored, failed = 0;
    bool granted = survives(scenario, (struct plan){KERNEL_ALL, SIZE_MAX, SIZE_MAX}, &calls);
    ok(granted && calls > 0, "%s: %zu system calls, none refused", scenario->name, calls);
    for (size_t k = 1; k <= calls; k++)
        failed += !survives(scenario, (struct plan){KERNEL_ALL, k, k}, &ignored);
    ok(failed == 0, "%s: each refused in turn", scenario->name);
    failed = 0;
    for (size_t k = 1; k <= calls; k += k < 40 ? 1 : 4)
        failed += !survives(scenario, (struct plan){KERNEL_ALL, k, SIZE_MAX}, &ignored);
    ok(failed == 0, "%s: all refused from some call on", scenario->name);
    failed = 0;
    for (unsigned kind = KERNEL_MMAP; kind < KERNEL_ALL; kind *= 2)
        failed += !survives(scenario, (struct plan){kind, 1, SIZE_MAX}, &ignored);
    ok(failed == 0, "%s: all of a kind refused", scenario->name);
}

int main(int argc, char **argv) {
    if (argc == 6)
        run(&scenarios[strtoul(argv[1], NULL, 10)], (int)strtoul(argv[5], NULL, 10));
    for (size_t i = 0; i < COUNT(scenarios); i++)
        if (argc == 1 || strcmp(argv[1], scenarios[i].name) == 0)
            walk(&scenarios[i]);
    return tap_done();
}
