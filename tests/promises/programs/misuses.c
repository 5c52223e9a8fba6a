/*
 * Misuses and faults, one a run, on whatever malloc this process has; scripts/promises runs them on several.
 *
 * misuses --list: a line for each: its name, what is done, what cadastre promises, what must come of it there, and the
 * test that shows more; with tabs between.
 * misuses NAME: does it, then looks whether the heap is whole. Exit status: 0 if so, 3 if two live blocks overlap or
 * one has changed, 4 if this malloc lacks the function.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { WHOLE = 0, CORRUPT = 3, LACKING = 4, HUNG_AFTER = 10 };

/* Keeps the compiler from knowing what a pointer is. */
static void *opaque(const void *pointer) {
    void *result = (void *)pointer;
    __asm__ volatile("" : "+r"(result) : : "memory");
    return result;
}

/* ------------------------------------------------------------------------------------------ is the heap whole? */
enum { GUARDS = 200, FRESH = 2000 };

static const size_t sizes[] = {16, 42, 100, 1000, 5000, 40000, 100000, 1 << 20};

static struct filled {
    unsigned char *bytes;
    size_t size;
} guards[GUARDS];

static void fill(struct filled *block, size_t size, size_t tag) {
    *block = (struct filled){malloc(size), size};
    if (!block->bytes)
        _exit(1);
    memset(block->bytes, (int)(tag % 251), size);
}

static void expect_filled(const struct filled *block, size_t tag) {
    for (size_t i = 0; i < block->size; i++)
        if (block->bytes[i] != tag % 251)
            _exit(CORRUPT);
}

static void set_guards(void) {
    for (size_t i = 0; i < GUARDS; i++)
        fill(&guards[i], sizes[i % 7], i);
}

/* New blocks overlap neither each other nor those from before. */
static void expect_whole_heap(void) {
    static struct filled fresh[FRESH];
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t count = sizes[s] <= 1000 ? FRESH : sizes[s] <= 40000 ? 200 : 20;
        for (size_t i = 0; i < count; i++)
            fill(&fresh[i], sizes[s], GUARDS + i);
        for (size_t i = 0; i < count; i++)
            expect_filled(&fresh[i], GUARDS + i);
        for (size_t i = 0; i < GUARDS; i++)
            expect_filled(&guards[i], i);
        for (size_t i = 0; i < count; i++)
            free(fresh[i].bytes);
    }
    for (size_t i = 0; i < GUARDS; i++)
        free(guards[i].bytes);
}

/* ----------------------------------------------------------------------------------------------- freed twice */
static void free_twice(size_t size) {
    void *block = malloc(size);
    free(block);
    free(opaque(block));
}

static void twice(void) {
    free_twice(42);
}

static void twice_small(void) {
    free_twice(5000);
}

static void twice_large(void) {
    free_twice(1 << 20);
}

static void twice_with_another_between(void) {
    void *block = malloc(42), *other = malloc(42);
    free(block);
    free(other);
    free(opaque(block));
}

static void twice_with_many_between(void) {
    static void *blocks[20000];
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = malloc(42);
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
    free(opaque(blocks[100]));
}

static void *free_on_a_thread(void *block) {
    free(block);
    return NULL;
}

static void twice_on_two_threads(void) {
    pthread_t thread;
    void *block = malloc(42);
    free(block);
    pthread_create(&thread, NULL, free_on_a_thread, block);
    pthread_join(thread, NULL);
}

static void twice_after_reuse(void) {
    void *block = malloc(42);
    free(block);
    struct filled other;
    fill(&other, 42, 1); /* where the freed one was, as a rule */
    for (int i = 0; i < 64 && other.bytes != opaque(block); i++)
        fill(&other, 42, 1);
    free(opaque(block));
    for (size_t i = 0; i < 64; i++)
        fill(&guards[i], 42, i);
    expect_filled(&other, 1);
}

static void *_Atomic shared;
static pthread_barrier_t both;

static void *free_shared(void *rounds) {
    for (size_t i = 0; i < (uintptr_t)rounds; i++) {
        pthread_barrier_wait(&both);
        free(atomic_load(&shared));
        pthread_barrier_wait(&both);
    }
    return NULL;
}

static void twice_at_once(void) {
    enum { ROUNDS = 500 };
    pthread_t thread;
    pthread_barrier_init(&both, NULL, 2);
    pthread_create(&thread, NULL, free_shared, (void *)(uintptr_t)ROUNDS);
    for (size_t i = 0; i < ROUNDS; i++) {
        atomic_store(&shared, malloc(42));
        pthread_barrier_wait(&both);
        free(atomic_load(&shared));
        pthread_barrier_wait(&both);
    }
    pthread_join(thread, NULL);
}

/* ------------------------------------------------------------------------------------- not the start of a block */
static void inside(void) {
    char *block = malloc(100);
    free(opaque(block + 16));
}

static void inside_large(void) {
    char *block = malloc(1 << 20);
    free(opaque(block + 4096));
}

static void on_the_stack(void) {
    char bytes[64] = {0};
    free(opaque(bytes + 16));
}

static void static_data(void) {
    static char bytes[64];
    free(opaque(bytes));
}

static void own_mapping(void) {
    char *mapped = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    free(opaque(mapped + 64));
}

static void small_number(void) {
    free(opaque((void *)16));
}

static void no_address(void) {
    free(opaque((void *)0xdeadbeefdeadbee0));
}

/* ------------------------------------------------------------------------------------------------ other calls */
static void realloc_freed(void) {
    void *block = malloc(42);
    free(block);
    block = realloc(opaque(block), 1000);
    if (block)
        memset(block, 1, 1000);
}

static void realloc_inside(void) {
    char *block = malloc(100);
    block = realloc(opaque(block + 16), 1000);
    if (block)
        memset(block, 1, 1000);
}

static void usable_size_of_freed(void) {
    void *block = malloc(42);
    free(block);
    malloc_usable_size(opaque(block));
}

static void wrong_free_sized(void) {
    void (*call)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    if (!call)
        _exit(LACKING);
    call(malloc(42), 1000);
}

/* operator delete(void *, size_t); where no malloc has it, it is the C++ library's, which calls free. */
static void wrong_sized_delete(void) {
    void (*call)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "_ZdlPvm");
    void *block = malloc(42);
    if (call)
        call(block, 1000);
    else
        free(block);
}

/* --------------------------------------------------------------------------------------------------- writing */
static void write_after_free(void) {
    struct filled blocks[8];
    for (size_t i = 0; i < COUNT(blocks); i++)
        fill(&blocks[i], 100, i);
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i].bytes);
    for (size_t i = 0; i < COUNT(blocks); i++)
        memset(opaque(blocks[i].bytes), 0x41, 100);
}

/* The blocks from the misuse's on are looked at together with the guards. */
static void write_beyond(ptrdiff_t from, size_t count) {
    for (size_t i = 0; i < 100; i++)
        free(guards[i].bytes);
    for (size_t i = 0; i < 100; i++)
        fill(&guards[i], 104, i);
    unsigned char *block = opaque(guards[50].bytes);
    memset(block + (from < 0 ? from : (ptrdiff_t)malloc_usable_size(block)), 0x41, count);
}

static void write_past_the_end(void) {
    write_beyond(0, 32);
}

static void write_before_the_start(void) {
    write_beyond(-32, 32);
}

/* -------------------------------------------------------------------------------------------- signals and forks */
static void allocate_much(int signal) {
    (void)signal;
    free(malloc(20 << 20));
}

static void malloc_in_a_handler(void) {
    struct sigaction action = {.sa_handler = allocate_much};
    struct itimerval often = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}};
    struct timeval end, now;
    gettimeofday(&end, NULL);
    end.tv_sec += 2;
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    do {
        allocate_much(0);
        gettimeofday(&now, NULL);
    } while (timercmp(&now, &end, <));
    signal(SIGPROF, SIG_IGN);
}

/* The heap, with which the parent goes on, is looked at afterwards. */
static volatile sig_atomic_t forks_in_handler;

static void fork_once(int signal) {
    int status = 0;
    (void)signal;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0)
        forks_in_handler++;
}

static void fork_in_a_handler(void) {
    enum { FORKS = 300 };
    struct sigaction action = {.sa_handler = fork_once, .sa_flags = SA_RESTART};
    struct itimerval often = {.it_interval = {.tv_usec = 2000}, .it_value = {.tv_usec = 2000}};
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &often, NULL);
    while (forks_in_handler < FORKS)
        for (size_t i = 0; i < COUNT(sizes); i++) {
            void *blocks[20];
            for (size_t j = 0; j < COUNT(blocks); j++)
                blocks[j] = malloc(sizes[i]);
            for (size_t j = 0; j < COUNT(blocks); j++)
                free(blocks[j]);
        }
    signal(SIGPROF, SIG_IGN);
}

static atomic_int stop;

static void *allocate_until_stopped(void *argument) {
    while (!atomic_load(&stop))
        for (size_t i = 0; i < COUNT(sizes); i++)
            free(realloc(malloc(sizes[i]), sizes[i] / 2 + 1));
    return argument;
}

/* The result is the worst of the children's. */
static void fork_while_busy(void) {
    pthread_t threads[3];
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_create(&threads[i], NULL, allocate_until_stopped, NULL);
    for (int i = 0; i < 100; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            alarm(5);
            for (size_t s = 0; s < COUNT(sizes); s++)
                free(malloc(sizes[s]));
            _exit(WHOLE);
        }
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status))
            raise(WTERMSIG(status));
    }
    atomic_store(&stop, 1);
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
}

static int handlers_allocate;

static void allocate_in_handler(void) {
    for (size_t i = 0; handlers_allocate && i < COUNT(sizes); i++) {
        void *blocks[20];
        for (size_t j = 0; j < COUNT(blocks); j++)
            blocks[j] = malloc(sizes[i]);
        for (size_t j = 0; j < COUNT(blocks); j++)
            free(blocks[j]);
    }
}

/* Before any constructor has run: so these handlers run while the allocator holds its locks. */
static void register_handlers(void) {
    pthread_atfork(allocate_in_handler, allocate_in_handler, allocate_in_handler);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = register_handlers;

static void fork_with_handlers(void) {
    handlers_allocate = 1;
    fork_while_busy();
    handlers_allocate = 0;
}

/* ------------------------------------------------------------------------------------------------- memory out */
static void memory_out(void) {
    static void *blocks[100000];
    struct rlimit limit = {512 << 20, 512 << 20};
    size_t count = 0;
    setrlimit(RLIMIT_AS, &limit);
    errno = 0;
    while (count < COUNT(blocks) && (blocks[count] = malloc(count % 2 ? 100000 : 1000)))
        count++;
    if (count == COUNT(blocks) || errno != ENOMEM)
        _exit(CORRUPT);
    while (count > 0)
        free(blocks[--count]);
}

static void impossible_sizes(void) {
    size_t most = SIZE_MAX;
    __asm__ volatile("" : "+r"(most));
    if (malloc(most) || malloc(most / 2 + 1) || calloc(most / 2, 4) || realloc(NULL, most - 64) ||
        memalign(16, most - 16))
        _exit(CORRUPT);
}

/* -------------------------------------------------------------------------------------------------- the table */
static const struct misuse {
    const char *name, *what, *promise, *expected, *test;
    void (*run)(void);
} misuses[] = {
#define REPORTED "reported, goes on"
#define CERTAIN  "reported: certain"
    {"twice", "`free` twice", CERTAIN, REPORTED, "tests/misuse/free.c", twice},
    {"twice-small", "the same, 5,000 bytes", CERTAIN, REPORTED, "tests/misuse/free.c", twice_small},
    {"twice-large", "the same, 1 MiB", CERTAIN, REPORTED, "tests/misuse/free.c", twice_large},
    {"twice-between", "`free` twice, another block between", CERTAIN, REPORTED, "tests/misuse/free.c",
     twice_with_another_between},
    {"twice-many", "`free` twice, thousands between", CERTAIN, REPORTED, "tests/misuse/free.c",
     twice_with_many_between},
    {"twice-threads", "`free` again by another thread", CERTAIN, REPORTED, "tests/misuse/free.c", twice_on_two_threads},
    {"twice-at-once", "`free` by two threads at once", "reported: probable", REPORTED, "tests/misuse/at_once.c",
     twice_at_once},
    {"twice-reused", "`free` again when the block is another's", "none", "silent corruption",
     "tests/debug/quarantine.c", twice_after_reuse},
    {"inside", "`free` inside a block", CERTAIN, REPORTED, "tests/misuse/free.c", inside},
    {"inside-large", "`free` inside a block of 1 MiB", CERTAIN, REPORTED, "tests/misuse/free.c", inside_large},
    {"stack", "`free` of the stack", CERTAIN, REPORTED, "tests/misuse/free.c", on_the_stack},
    {"static", "`free` of static data", CERTAIN, REPORTED, "tests/misuse/free.c", static_data},
    {"mapping", "`free` of a mapping of the program's", CERTAIN, REPORTED, "tests/misuse/free.c", own_mapping},
    {"number", "`free` of a small number", CERTAIN, REPORTED, "tests/misuse/free.c", small_number},
    {"no-address", "`free` of what is no address", CERTAIN, REPORTED, "tests/misuse/free.c", no_address},
    {"realloc-freed", "`realloc` of a freed block", CERTAIN, REPORTED, "tests/misuse/realloc.c", realloc_freed},
    {"realloc-inside", "`realloc` inside a block", CERTAIN, REPORTED, "tests/misuse/realloc.c", realloc_inside},
    {"usable-freed", "`malloc_usable_size` of a freed block", CERTAIN, REPORTED, "tests/misuse/sized.c",
     usable_size_of_freed},
    {"free-sized", "`free_sized` with a wrong size", CERTAIN, REPORTED, "tests/misuse/sized.c", wrong_free_sized},
    {"delete-sized", "C++: sized `delete` with a wrong size", "harmless: certain", "works",
     "tests/api/programs/operators.cc", wrong_sized_delete},
    {"write-freed", "writing to freed blocks", "heap unharmed: certain", "works", "tests/debug/after_free.c",
     write_after_free},
    {"write-past", "writing past a block's end", "none", "silent corruption", "tests/debug/canaries.c",
     write_past_the_end},
    {"write-before", "writing before a block's start", "none", "silent corruption", "tests/debug/canaries.c",
     write_before_the_start},
    {"signal", "`malloc` in a signal handler, inside a slow path", "aborts, never hangs: certain",
     "aborted with message", "tests/misuse/signal.c", malloc_in_a_handler},
    {"signal-fork", "`fork` in a signal handler, inside `malloc`", "works: certain", "works",
     "tests/threads/forks_signal.c", fork_in_a_handler},
    {"fork", "`fork` while threads allocate, who then allocates", "works: certain", "works", "tests/threads/forks.c",
     fork_while_busy},
    {"fork-handlers", "the same, with handlers of `fork` that allocate", "works: certain", "works",
     "tests/early/loaded.t", fork_with_handlers},
    {"memory-out", "no memory left (`RLIMIT_AS`)", "`ENOMEM`: certain", "works", "tests/limits/exhaustion.c",
     memory_out},
    {"impossible", "sizes that overflow", "`ENOMEM`: certain", "works", "tests/api/contract.c", impossible_sizes},
};

int main(int argc, char **argv) {
    const char *name = argc == 2 ? argv[1] : "";
    for (size_t i = 0; i < COUNT(misuses); i++) {
        const struct misuse *misuse = &misuses[i];
        if (strcmp(name, "--list") == 0) {
            printf("%s\t%s\t%s\t%s\t%s\n", misuse->name, misuse->what, misuse->promise, misuse->expected, misuse->test);
        } else if (strcmp(name, misuse->name) == 0) {
            alarm(HUNG_AFTER);
            set_guards();
            misuse->run();
            expect_whole_heap();
            return WHOLE;
        }
    }
    return strcmp(name, "--list") != 0;
}
