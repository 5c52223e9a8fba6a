/*
 * CADASTRE_LEAKS: what is live at exit, exactly: grouped by who took it where stacks are recorded, else by size, the
 * most bytes first; nothing else, such as the buffers of the standard streams; wherever the process has its standard
 * error by then; and by each process for itself.
 */
#include "cadastre.h"
#include "debug/cases.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>

static __attribute__((noinline)) void leak(size_t count, size_t size) {
    for (size_t i = 0; i < count; i++)
        memset(opaque(malloc(size)), 1, size);
    __asm__ volatile("" : : : "memory");
}

static __attribute__((noinline)) void leak_elsewhere(size_t count, size_t size) {
    for (size_t i = 0; i < count; i++)
        memset(opaque(calloc(1, size)), 1, size);
    __asm__ volatile("" : : : "memory");
}

#define NONE "cadastre: leaks: 0 bytes in 0 blocks\n"

static void frees_all(void) {
    static void *blocks[10000];
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = malloc(i * (i % 100 ? 1 : 10));
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
}

static void some(void) {
    frees_all();
    leak(3, 100);
    leak(2, 1000);
    leak_elsewhere(1, 100000);
    leak_elsewhere(4, 1);
    leak_elsewhere(2, 0);
}

#define LEAK(amount, at) "cadastre: leak: " amount ", " at "0x@\n"
#define LEAKS_SOME                                                                                                     \
    LEAK("100000 bytes in 1 block", "at ")                                                                             \
    LEAK("2000 bytes in 2 blocks", "the first at ")                                                                    \
    LEAK("300 bytes in 3 blocks", "the first at ")                                                                     \
    LEAK("4 bytes in 4 blocks", "the first at ")                                                                       \
    LEAK("0 bytes in 2 blocks", "the first at ")                                                                       \
    "cadastre: leaks: 102304 bytes in 12 blocks; CADASTRE_STACKS=16 says who took them\n"

/* Sizes that one caller takes are one group; one size that two callers take is two. */
static void two_callers(void) {
    frees_all();
    for (size_t i = 0; i < 10; i++)
        leak(1, 100 + i);
    for (size_t i = 0; i < opaque_size(3); i++)
        leak_elsewhere(1, 100);
}

#define CALLS "cadastre:     case+0x@\ncadastre:     *\n"
#define LEAKS_TWO_CALLERS                                                                                              \
    "cadastre: leak: 1045 bytes in 10 blocks, the first at 0x@, taken at\n" CALLS                                      \
    "cadastre: leak: 300 bytes in 3 blocks, the first at 0x@, taken at\n" CALLS "cadastre: leaks: 1345 bytes in 13 "   \
    "blocks\n"

/* More than there is room for at first, over and again. */
static void many_blocks(void) {
    leak(200000, 24);
}

static void many_groups(void) {
    for (size_t i = 1; i <= 130; i++)
        leak(1, 10 * i);
}

static void by_run_time(void) {
    check(cadastre_option_set("LEAKS", "1") == 0, "cannot be set");
    leak(1, 7);
}

#define LEAKS_SEVEN                                                                                                    \
    "cadastre: leak: 7 bytes in 1 block, at 0x@\n"                                                                     \
    "cadastre: leaks: 7 bytes in 1 block; CADASTRE_STACKS=16 says who took them\n"

static void takes_7(void) {
    leak(1, 7);
}

/* A leak as large as the buffer of standard output is not mixed up with it. */
static void streams(void) {
    check(fputs("# standard output has a buffer\n", stdout) >= 0 && fflush(stdout) == 0, "cannot print");
    leak(1, (size_t)(stdout->_IO_buf_end - stdout->_IO_buf_base));
}

#define LEAKS_STREAMS                                                                                                  \
    "cadastre: leak: # bytes in 1 block, at 0x@*\n"                                                                    \
    "cadastre: leaks: # bytes in 1 block; besides, the C library, the C++ library and the loader keep # bytes in 1 "   \
    "block*\n"

/* ------------------------------------------------------------------------------------------ standard error */
static void closes_stderr(void) {
    leak(1, 7);
    fclose(stderr);
}

/* As daemons do; a file of the program's that has the number of ours by then is the program's. Its parent looks. */
static void closes_all(void) {
    int data = memfd_create("data", 0);
    pid_t pid = fork();
    if (pid == 0) {
        leak(1, 7);
        for (int fd = 0; fd < 1000; fd++)
            if (fd != data)
                dup2(data, fd);
        close(STDERR_FILENO);
        exit(0);
    }
    waitpid(pid, NULL, 0);
    check(lseek(data, 0, SEEK_END) == 0, "the report is in a file of the program's");
    _exit(0);
}

static void few_descriptors(void) {
    const struct rlimit limit = {64, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* ----------------------------------------------------------------------------------------------- processes */
static void forks(void) {
    int status = -1;
    leak(1, 7);
    pid_t pid = fork();
    if (pid == 0) {
        leak(2, 3);
        exit(0);
    }
    waitpid(pid, &status, 0);
    check(status == 0, "the child's status is %d", status);
}

#define LEAKS_FORKS                                                                                                    \
    LEAK("7 bytes in 1 block", "at ")                                                                                  \
    LEAK("6 bytes in 2 blocks", "the first at ")                                                                       \
    "cadastre: leaks: 13 bytes in 3 blocks; CADASTRE_STACKS=16 says who took them\n" LEAKS_SEVEN

static void leaves_quickly(void) {
    leak(1, 7);
    _exit(0);
}

static void aborts(void) {
    leak(1, 7);
    abort();
}

enum { THREADS = 16 };

static void *leaks_in_thread(void *argument) {
    for (size_t i = 0; i < 1000; i++) {
        free(opaque(malloc(i)));
        if (i % 100 == 0)
            leak(1, 40);
    }
    return argument;
}

static void threads(void) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, leaks_in_thread, NULL) == 0, "no thread");
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

#define ON "CADASTRE_LEAKS=1"

static const struct debug_case cases[] = {
    {{"frees all", frees_all}, {ON}, .errors = NONE},
    {{"frees all, with stacks", frees_all}, {ON, "CADASTRE_STACKS=8"}, .errors = NONE},
    {{"frees all, all modes", frees_all}, {ON, ALL_MODES}, .errors = NONE},
    {{"not asked for", some}, {"CADASTRE_LEAKS=0"}, .errors = ""},
    {{"some", some}, {ON}, .errors = LEAKS_SOME},
    {{"some, FtLeaks", some}, {"FtLeaks=0"}, .errors = LEAKS_SOME},
    {{"two callers", two_callers}, {ON, "CADASTRE_STACKS=16"}, .errors = LEAKS_TWO_CALLERS},
    {{"two callers, all modes", two_callers}, {ON, ALL_MODES}, .errors = LEAKS_TWO_CALLERS},
    {{"many groups", many_groups},
     {ON},
     .errors = "cadastre: leak: 1300 bytes in 1 block, at 0x@\ncadastre: leak: 1290 bytes *\ncadastre: leak: 310 bytes "
               "in 1 block, at 0x@\ncadastre: leak: and 30 smaller groups\ncadastre: leaks: 85150 bytes in 130 *\n"},
    {{"many blocks", many_blocks},
     {ON},
     .errors = "cadastre: leak: 4800000 bytes in 200000 blocks, *\ncadastre: leaks: 4800000 bytes in 200000 blocks*\n"},
    {{"by run time", by_run_time}, {NULL}, .errors = LEAKS_SEVEN},
    {{"streams", streams}, {ON}, .errors = LEAKS_STREAMS},
    {{"streams, with stacks", streams}, {ON, "CADASTRE_STACKS=8"}, .errors = LEAKS_STREAMS},
    {{"closes standard error", closes_stderr}, {ON}, .errors = LEAKS_SEVEN},
    {{"closes all", closes_all}, {ON}, .errors = ""},
    {{"few descriptors", takes_7}, {ON}, .errors = LEAKS_SEVEN, .prepare = few_descriptors},
    {{"forks", forks}, {ON}, .errors = LEAKS_FORKS},
    {{"leaves quickly", leaves_quickly}, {ON}, .errors = ""},
    {{"aborts", aborts}, {ON}, .signal = SIGABRT, .errors = ""},
    {{"threads", threads},
     {ON, "CADASTRE_STACKS=16"},
     .errors = "cadastre: leak: 6400 bytes in 160 blocks, *\ncadastre: leaks: 6400 bytes in 160 blocks*\n"},
};

MAIN_OF_DEBUG_CASES(cases)
