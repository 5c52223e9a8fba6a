/*
 * small_stack [--starved|--busy] NAME...: calls each function of the library that is named, in a thread of its own
 * with the smallest stack that there can be, whose first call it is. The last one ends the process, with exit. With
 * --starved the kernel gives that thread no memory; with --busy besides the thread is in the midst of another report.
 * Exits with 2 if a call gave a wrong answer, and with 3 for a name that is not known here.
 *
 * What is called on that stack is little else: no stdio, and no lazy binding.
 */
#include "cadastre.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static bool starved, busy;
static const char *wrong; /* what was, at last */
static FILE *nowhere;
static int nowhere_fd;

static void expect(bool holds, const char *what) {
    if (!holds)
        wrong = what;
}

/* A block that may be refused only where there is nothing to give. */
static void *block_of(void *block) {
    expect(block != NULL || starved, "no block");
    return block;
}

static void write_to(void *block, size_t size) {
    if (block != NULL)
        memset(block, 1, size);
}

/* Of each category, and again for what was freed. */
static const size_t sizes[] = {1, 100, 1000, 5000, 60000, 100000, 3 << 20, 100, 100000};

/* ----------------------------------------------------------------------------------------------- the family */
static void by_size(void *function) {
    void *(*take)(size_t) = (void *(*)(size_t))function;
    void *held[300];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *block = block_of(take(sizes[i]));
        write_to(block, sizes[i]);
        free(block);
    }
    for (size_t i = 0; i < COUNT(held); i++)
        held[i] = block_of(take(3000));
    for (size_t i = 0; i < COUNT(held); i++)
        free(held[i]);
}

static void by_size_or_null(void *function) {
    by_size(function);
    expect(((void *(*)(size_t))function)(SIZE_MAX) == NULL, "a block of SIZE_MAX");
}

static void by_count(void *function) {
    void *(*take)(size_t, size_t) = (void *(*)(size_t, size_t))function;
    for (size_t i = 0; i < COUNT(sizes); i++)
        free(block_of(take(sizes[i], 3)));
    expect(take(SIZE_MAX, 3) == NULL, "more than there is");
}

static void by_alignment(void *function) {
    void *(*take)(size_t, size_t) = (void *(*)(size_t, size_t))function;
    for (size_t alignment = 16; alignment <= 1 << 20; alignment *= 4)
        for (size_t i = 0; i < COUNT(sizes); i++)
            free(block_of(take(alignment, sizes[i])));
}

static void by_size_and_alignment(void *function) {
    void *(*take)(size_t, size_t) = (void *(*)(size_t, size_t))function;
    for (size_t i = 0; i < COUNT(sizes); i++)
        free(block_of(take(sizes[i], 64)));
}

static void by_pointer_to_it(void *function) {
    int (*take)(void **, size_t, size_t) = (int (*)(void **, size_t, size_t))function;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        void *block = NULL;
        expect(take(&block, 256, sizes[i]) == (block == NULL ? ENOMEM : 0), "the result");
        free(block_of(block));
    }
}

static void *volatile refused; /* keeps the compiler from knowing */

static void nothrow(void *function) {
    void *(*take)(size_t, const void *) = (void *(*)(size_t, const void *))function;
    char tag;
    for (size_t i = 0; i < COUNT(sizes); i++)
        free(block_of(take(sizes[i], &tag)));
    refused = take(SIZE_MAX, &tag);
    expect(refused == NULL, "a block of SIZE_MAX");
}

static void aligned_nothrow(void *function) {
    void *(*take)(size_t, size_t, const void *) = (void *(*)(size_t, size_t, const void *))function;
    char tag;
    for (size_t i = 0; i < COUNT(sizes); i++)
        free(block_of(take(sizes[i], 64, &tag)));
}

static void resizing(void *function) {
    void *(*resize)(void *, size_t) = (void *(*)(void *, size_t))function;
    void *block = NULL;
    char local[32];
    for (size_t round = 0; round < 3; round++)
        for (size_t i = 0; i < COUNT(sizes); i++) {
            void *moved = block_of(resize(block, sizes[i]));
            block = moved != NULL ? moved : block;
        }
    free(block);
    expect(resize(local + 16, 100) == NULL, "no block");
}

static void resizing_many(void *function) {
    void *(*resize)(void *, size_t, size_t) = (void *(*)(void *, size_t, size_t))function;
    void *block = block_of(resize(NULL, 10, 100));
    void *moved = block_of(resize(block, 100, 1000));
    free(moved != NULL ? moved : block);
}

/* Blocks of each kind, and all that can be wrong with one. */
static void giving_back(void (*give)(void *give, void *block, size_t size), void *function) {
    char local[32];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        char *block = block_of(malloc(sizes[i]));
        if (block == NULL)
            continue;
        give(function, block + 8, sizes[i]);
        give(function, block, sizes[i]);
        give(function, block, sizes[i]);
    }
    give(function, local + 16, 16);
    give(function, (void *)0x1234560, 16);
    give(function, &starved, 16);
    give(function, NULL, 16);
}

static void give_plainly(void *function, void *block, size_t size) {
    (void)size;
    ((void (*)(void *))function)(block);
}
static void give_with_size(void *function, void *block, size_t size) {
    ((void (*)(void *, size_t))function)(block, size + 100000);
}
static void give_with_alignment(void *function, void *block, size_t size) {
    ((void (*)(void *, size_t, size_t))function)(block, 4096, size);
}
static void give_with_size_truly(void *function, void *block, size_t size) {
    ((void (*)(void *, size_t, size_t))function)(block, size, 16);
}

static void by_block(void *function) {
    giving_back(give_plainly, function);
}
static void by_block_and_size(void *function) {
    giving_back(give_with_size, function);
}
static void by_block_alignment_and_size(void *function) {
    giving_back(give_with_alignment, function);
}
static void by_block_and_two(void *function) {
    giving_back(give_with_size_truly, function);
}

static void asking(void *function) {
    size_t (*ask)(void *) = (size_t(*)(void *))function;
    char *block = block_of(malloc(100));
    expect(block == NULL || ask(block) >= 100, "a size");
    expect(ask(block + 1) == 0 && ask(NULL) == 0, "no size");
    free(block);
}

static void asking_beforehand(void *function) {
    expect(((size_t(*)(size_t))function)(100) == 112 && ((size_t(*)(size_t))function)(1 << 20) == 1 << 20, "a size");
}

/* ---------------------------------------------------------------------------------------------- the register
 * With --busy, what needs memory says so by ENOMEM. */
static void expect_served(int result) {
    expect(busy ? result == -1 && errno == ENOMEM : result == 0, "the result");
}

static void without_arguments(void *function) {
    ((void (*)(void))function)();
}

static int check_heap_in(void *argument, const cadastre_block *block) {
    (void)block;
    if (++*(int *)argument % 50 == 0)
        malloc_stats();
    return 0;
}

static jmp_buf *volatile way_out;

static int leave(void *argument, const cadastre_block *block) {
    (void)argument, (void)block;
    longjmp(*way_out, 1);
}

static void walking(void *function) {
    int (*walk)(int (*)(void *, const cadastre_block *), void *) =
        (int (*)(int (*)(void *, const cadastre_block *), void *))function;
    jmp_buf out;
    int blocks = 0;
    void *held = block_of(malloc(100));
    expect(walk(check_heap_in, &blocks) == 0 && (starved || blocks > 0), "the walk");
    way_out = &out;
    if (setjmp(out) == 0)
        walk(leave, NULL);
    free(held);
}

static void showing(void *function) {
    int (*show)(const struct cadastre_show *) = (int (*)(const struct cadastre_show *))function;
    struct cadastre_show what = {.size = sizeof what, .hexdump = 64, .fd = nowhere_fd};
    void *held = block_of(malloc(100));
    for (what.format = CADASTRE_TEXT; what.format <= CADASTRE_JSON; what.format++)
        expect_served(show(&what));
    free(held);
}

static void drawing(void *function) {
    expect_served(((int (*)(int))function)(nowhere_fd));
}

static void getting_option(void *function) {
    char value[64];
    expect(((int (*)(const char *, char *, size_t))function)("ARENAS", value, sizeof value) == 0, "the option");
}

static void setting_option(void *function) {
    int (*set)(const char *, const char *) = (int (*)(const char *, const char *))function;
    expect(set("RELEASE_AT_EXIT", "1") == 0 && set("NONE", "1") == -1, "the option");
}

static void helping(void *function) {
    ((void (*)(int))function)(nowhere_fd);
}

static void checking(void *function) {
    expect(((int (*)(void))function)() == 0, "the heap");
}

/* ------------------------------------------------------------------------------------------------- statistics */
static void all_figures(void *function) {
    struct cadastre_stats stats;
    expect_served(((int (*)(struct cadastre_stats *, size_t))function)(&stats, sizeof stats));
    expect(busy || (stats.mapped.total > 0 && stats.mapped.other == 0), "the figures");
}

static void figures_of_arena(void *function) {
    int (*ask)(unsigned, struct cadastre_arena_stats *, size_t) =
        (int (*)(unsigned, struct cadastre_arena_stats *, size_t))function;
    static struct cadastre_arena_stats stats;
    expect_served(ask(0, &stats, sizeof stats));
}

static void resident_figures(void *function) {
    int (*ask)(struct cadastre_memory *, struct cadastre_memory *, size_t) =
        (int (*)(struct cadastre_memory *, struct cadastre_memory *, size_t))function;
    struct cadastre_memory mapped, resident;
    expect_served(ask(&mapped, &resident, sizeof mapped));
}

static void printing(void *function) {
    int (*print)(int, enum cadastre_format) = (int (*)(int, enum cadastre_format))function;
    expect_served(print(nowhere_fd, CADASTRE_TEXT));
    expect_served(print(nowhere_fd, CADASTRE_JSON));
}

#ifdef __GLIBC__
static void old_figures(void *function) {
    struct mallinfo info = ((struct mallinfo(*)(void))function)();
    expect(busy || info.arena > 0, "the figures");
}

static void new_figures(void *function) {
    struct mallinfo2 info = ((struct mallinfo2(*)(void))function)();
    expect(busy || info.arena > 0, "the figures");
}

static void informing(void *function) {
    int result = ((int (*)(int, FILE *))function)(0, nowhere);
    expect(result == (busy ? ENOMEM : 0), "the result");
}

static void trimming(void *function) {
    free(block_of(malloc(1 << 20)));
    ((int (*)(size_t))function)(0);
}

static void tuning(void *function) {
    expect(((int (*)(int, int))function)(M_TRIM_THRESHOLD, 1 << 20) == 1, "the parameter");
}
#endif

/* Which takes memory, too. */
static void opening(void *function) {
    void *library = ((void *(*)(const char *, int))function)("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    expect(library != NULL || starved, "libc.so.6");
}

static void opening_in_a_namespace(void *function) {
    void *(*open)(Lmid_t, const char *, int) = (void *(*)(Lmid_t, const char *, int))function;
    expect(open(LM_ID_BASE, "libc.so.6", RTLD_LAZY | RTLD_NOLOAD) != NULL || starved, "libc.so.6");
}

/* -------------------------------------------------------------------------------------------------- the calls */
static const struct {
    const char *names; /* between spaces */
    void (*call)(void *function);
} calls[] = {
    {" malloc cadastre_malloc __libc_malloc valloc cadastre_valloc __libc_valloc pvalloc cadastre_pvalloc "
     "__libc_pvalloc ",
     by_size_or_null},
    {" _Znwm _Znam ", by_size},
    {" calloc cadastre_calloc __libc_calloc ", by_count},
    {" aligned_alloc cadastre_aligned_alloc memalign cadastre_memalign __libc_memalign ", by_alignment},
    {" _ZnwmSt11align_val_t _ZnamSt11align_val_t ", by_size_and_alignment},
    {" _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t ", nothrow},
    {" _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t ", aligned_nothrow},
    {" posix_memalign cadastre_posix_memalign __posix_memalign ", by_pointer_to_it},
    {" realloc cadastre_realloc __libc_realloc ", resizing},
    {" reallocarray cadastre_reallocarray ", resizing_many},
    {" free cadastre_free __libc_free cfree _ZdlPv _ZdaPv ", by_block},
    {" free_sized cadastre_free_sized _ZdlPvm _ZdaPvm _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t "
     "_ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t ",
     by_block_and_size},
    {" free_aligned_sized cadastre_free_aligned_sized ", by_block_alignment_and_size},
    {" _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t _ZdlPvSt11align_val_tRKSt9nothrow_t "
     "_ZdaPvSt11align_val_tRKSt9nothrow_t ",
     by_block_and_two},
    {" malloc_usable_size cadastre_malloc_usable_size malloc_size cadastre_malloc_size ", asking},
    {" malloc_good_size cadastre_malloc_good_size ", asking_beforehand},
    {" show_alloc_mem show_alloc_memory malloc_stats ", without_arguments},
    {" cadastre_walk ", walking},
    {" show_alloc_mem_ex ", showing},
    {" show_alloc_mem_map ", drawing},
    {" cadastre_option_get ", getting_option},
    {" cadastre_option_set ", setting_option},
    {" cadastre_option_help ", helping},
    {" cadastre_check ", checking},
    {" cadastre_stats ", all_figures},
    {" cadastre_arena_stats ", figures_of_arena},
    {" cadastre_resident ", resident_figures},
    {" cadastre_stats_print ", printing},
#ifdef __GLIBC__
    {" mallinfo ", old_figures},
    {" mallinfo2 ", new_figures},
    {" malloc_info ", informing},
    {" malloc_trim ", trimming},
    {" mallopt ", tuning},
#endif
    {" dlopen ", opening},
    {" dlmopen ", opening_in_a_namespace},
};

struct job {
    void (*call)(void *function);
    void *function;
    bool is_last;
    FILE *stream; /* if busy */
};

static void do_it(struct job *job) {
    job->call(job->function);
    if (job->is_last && wrong == NULL)
        exit(0);
}

/* What malloc_info writes to, once. */
static ssize_t do_it_meanwhile(void *job, const char *text, size_t size) {
    (void)text;
    do_it(job);
    return (ssize_t)size;
}

static FILE *open_busy(struct job *job) {
    FILE *stream = fopencookie(job, "w", (cookie_io_functions_t){.write = do_it_meanwhile});
    setvbuf(stream, NULL, _IONBF, 0);
    return stream;
}

static void *work(void *argument) {
    const struct rlimit nothing = {4096, 4096};
    struct job *job = argument;
    if (starved)
        setrlimit(RLIMIT_AS, &nothing);
    if (busy)
        malloc_info(0, job->stream);
    else
        do_it(job);
    return NULL;
}

/* Of 16 KiB, or where that is not allowed, of the least that is. */
static int run_on_small_stack(struct job *job) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstacksize(&attributes, 16384) != 0)
        pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN));
    int error = pthread_create(&thread, &attributes, work, job);
    return error != 0 ? error : pthread_join(thread, NULL);
}

static bool find_call(const char *name, struct job *job) {
    char word[128];
    snprintf(word, sizeof word, " %s ", name);
    for (size_t i = 0; i < COUNT(calls); i++)
        if (strstr(calls[i].names, word) != NULL) {
            job->call = calls[i].call;
            job->function = dlsym(RTLD_DEFAULT, name);
            return true;
        }
    return false;
}

int main(int count, char **arguments) {
    int first = 1;
    const char *stats = getenv("CADASTRE_STATS");
    bool signals = stats != NULL && strcmp(stats, "signal") == 0;
    nowhere = fopen("/dev/null", "w");
    nowhere_fd = open("/dev/null", O_WRONLY);
    busy = count > first && strcmp(arguments[first], "--busy") == 0;
    starved = busy || (count > first && strcmp(arguments[first], "--starved") == 0);
    first += starved;
    for (int i = first; i < count; i++) {
        struct job job = {.is_last = i == count - 1};
        if (!find_call(arguments[i], &job) || job.function == NULL) {
            fprintf(stderr, "small_stack: does not know how to call %s\n", arguments[i]);
            return 3;
        }
        fprintf(stderr, "small_stack: %s\n", arguments[i]);
        if (busy)
            job.stream = open_busy(&job);
        if (signals)
            kill(getpid(), SIGUSR2);
        if (run_on_small_stack(&job) != 0 || wrong != NULL) {
            fprintf(stderr, "small_stack: %s: %s\n", arguments[i], wrong != NULL ? wrong : "no thread");
            return 2;
        }
    }
    return 0;
}
