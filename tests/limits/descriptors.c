/*
 * No file can be opened (RLIMIT_NOFILE is 0 before the library starts): it cannot learn what /proc and /sys would tell,
 * nor write to a log of its own; all else works, and reports go to standard error.
 */
#include "limits/memory.h"
#include "misuse/guard.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

/* The loader has opened what it needs by now, and the library's constructor comes after this. */
static void forbid_files(int argc, char **argv, char **environment) {
    const struct rlimit none = {0, 0};
    (void)argv;
    (void)environment;
    if (argc > 1 && setrlimit(RLIMIT_NOFILE, &none) != 0) /* in a case */
        _exit(126);
}

__attribute__((section(".preinit_array"), used)) static void (*const first)(int, char **, char **) = forbid_files;

static void no_file_can_be_opened(void) {
    check(open("/dev/null", O_RDONLY) < 0 && errno == EMFILE, "a file can be opened");
}

static void *use_every_category(void *argument) {
    for (size_t size = 16; size < MIB; size *= 2) {
        unsigned char *block = malloc(size);
        check(block, "no %zu bytes", size);
        pattern_write(block, size, size);
        block = realloc(block, 3 * size);
        check(block && pattern_holds(block, 16, size), "realloc from %zu bytes", size);
        free(block);
    }
    return argument;
}

static void every_category(void) {
    pthread_t threads[4];
    no_file_can_be_opened();
    use_every_category(NULL);
    for (size_t i = 0; i < COUNT(threads); i++)
        check(pthread_create(&threads[i], NULL, use_every_category, NULL) == 0, "no thread");
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    check(malloc_trim(0) == 1, "nothing to trim");
    expect_silence();
}

static void misuse_is_reported(void) {
    char *block = malloc(42);
    no_file_can_be_opened();
    free(opaque(block + 1));
    expect_report("free(%p): not the start of a block: 1 bytes into a live block of 42 bytes at %p, arena #",
                  (void *)(block + 1), (void *)block);
    free(block);
    free(opaque(block));
    expect_report("free(%p): double free: *", (void *)block);
}

static void statistics(void) {
    const struct cadastre_show totals = {.size = sizeof totals, .fd = STDERR_FILENO, .what = CADASTRE_SHOW_TOTALS};
    struct cadastre_memory mapped, resident;
    char *block = malloc(5000);
    check(cadastre_resident(&mapped, &resident, sizeof mapped) == 0 && mapped.live == 5000, "%zu bytes are live",
          (size_t)mapped.live);
    check(show_alloc_mem_ex(&totals) == 0, "the register is not shown");
    check(matches(next_error(), "*5000 bytes*"), "the total is another");
    check(cadastre_stats_print(STDERR_FILENO, CADASTRE_TEXT) == 0, "no statistics");
    check(matches(next_error(), "cadastre: statistics of process #"), "they begin otherwise");
    free(block);
}

static const struct set_case cases[] = {
    {{"every category, on threads too", every_category}, NULL, NULL},
    {{"every category, with stacks recorded", every_category}, NULL, "CADASTRE_STACKS=16"},
    {{"misuse is reported", misuse_is_reported}, NULL, NULL},
    {{"misuse is reported, though there can be no log", misuse_is_reported}, NULL, "CADASTRE_LOG=/dev/null"},
    {{"statistics and the register", statistics}, NULL, NULL},
};

MAIN_OF_SET_CASES(cases)
