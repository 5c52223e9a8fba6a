/*
 * A program may forbid itself all system calls but those that it needs. Here are those that the library makes after it
 * was loaded, by what is done: none besides is made, and each of them is, since without it a case is killed. What the C
 * library does by itself (abort, fork, new threads) comes on top.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum doing {
    ALLOCATING = 1, /* and freeing, with no option set */
    REPORTING = 2,  /* wrong frees */
    UNREAD = 4,     /* the same, and a heap map, where nobody reads them */
    SHOWING = 8,    /* the heap, with its bytes, and in colours */
    COUNTING = 16,  /* what is resident */
    DEBUGGING = 32, /* the modes that take the place of the thread caches */
    PRINTING = REPORTING | UNREAD | SHOWING,
};

static const struct allowed {
    const char *name;
    unsigned number;
    unsigned doing; /* ALLOCATING counts for all */
} calls[] = {
    {"mmap", SYS_mmap, ALLOCATING},
    {"munmap", SYS_munmap, ALLOCATING},
    {"mremap", SYS_mremap, ALLOCATING},
    {"madvise", SYS_madvise, ALLOCATING},
    {"mprotect", SYS_mprotect, ALLOCATING},
    {"futex", SYS_futex, ALLOCATING},
    {"clock_gettime", SYS_clock_gettime, ALLOCATING},
    {"prlimit64", SYS_prlimit64, ALLOCATING},
    {"write", SYS_write, PRINTING},
    {"rt_sigprocmask", SYS_rt_sigprocmask, PRINTING | DEBUGGING},
    {"rt_sigpending", SYS_rt_sigpending, PRINTING},
    {"openat", SYS_openat, REPORTING},
    {"read", SYS_read, REPORTING},
    {"close", SYS_close, REPORTING},
    {"ppoll", SYS_ppoll, UNREAD},
    {"rt_sigtimedwait", SYS_rt_sigtimedwait, UNREAD},
    {"getpid", SYS_getpid, SHOWING},
    {"process_vm_readv", SYS_process_vm_readv, SHOWING},
    {"ioctl", SYS_ioctl, SHOWING},
    {"mincore", SYS_mincore, COUNTING},
    {"gettid", SYS_gettid, DEBUGGING},
};

/* The test's own end. Its threads wait for one another without the kernel. */
static const unsigned own_calls[] = {SYS_exit_group, SYS_sched_yield};

/* From here on only what is listed for `doing`, less what WITHOUT names; for all threads. */
static void forbid_the_rest(unsigned doing) {
    struct sock_filter filter[2 * (COUNT(calls) + COUNT(own_calls)) + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    unsigned short n = 1;
    const char *without = getenv("WITHOUT");
    for (size_t i = 0; i < COUNT(calls) + COUNT(own_calls); i++) {
        const struct allowed *call = i < COUNT(calls) ? &calls[i] : NULL;
        if (call && (!(call->doing & (doing | ALLOCATING)) || (without && strcmp(without, call->name) == 0)))
            continue;
        unsigned number = call ? call->number : own_calls[i - COUNT(calls)];
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog program = {n, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        skip_case("no filter can be set here: %s", strerror(errno));
}

/* ---------------------------------------------------------------------------------------------------- doing it */
enum { THREADS = 4, BLOCKS = 300, ROUNDS = 40 };

static atomic_int ready, go, done;

static void wait_until(atomic_int *number, int wanted) {
    while (atomic_load(number) < wanted)
        sched_yield();
}

/* More than a cache holds of each size, so that threads meet at their arena's lock; more than may be retained. */
static void *allocate(void *argument) {
    static const size_t sizes[] = {100, 3000, 30000, 300000};
    unsigned char *blocks[BLOCKS];
    if (argument) {
        atomic_fetch_add(&ready, 1);
        wait_until(&go, 1);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            blocks[i] = malloc(sizes[i % COUNT(sizes)]);
            if (!blocks[i])
                _exit(1);
            blocks[i][0] = 1;
        }
        blocks[0] = realloc(realloc(blocks[0], 6 << 20), 40 << 20);
        for (size_t i = 0; i < BLOCKS; i++)
            free(blocks[i]);
    }
    atomic_fetch_add(&done, 1);
    wait_until(&done, argument ? INT_MAX : THREADS + 1); /* the end of a thread is not the library's */
    return NULL;
}

static void allocating(void) {
    pthread_t thread;
    for (int i = 0; i < THREADS; i++)
        check(pthread_create(&thread, NULL, allocate, &go) == 0, "no thread");
    wait_until(&ready, THREADS);
    forbid_the_rest(ALLOCATING);
    atomic_store(&go, 1);
    allocate(NULL);
    malloc_trim(0);
    _exit(0);
}

static void free_twice(void) {
    void *block = malloc(100);
    free(block);
    free(opaque(block));
}

static void reporting(void) {
    static char never_allocated[16];
    forbid_the_rest(REPORTING);
    free_twice();
    free(opaque(never_allocated)); /* in which mapping it lies is part of the report */
    _exit(0);
}

/* Standard error is a pipe that is full, standard output one that has no reader. */
static void unread(void) {
    static char bytes[4096];
    int full[2], broken[2];
    check(pipe2(full, O_NONBLOCK) == 0 && pipe(broken) == 0, "no pipes");
    while (write(full[1], bytes, sizeof bytes) > 0)
        continue;
    dup2(full[1], STDERR_FILENO);
    dup2(broken[1], STDOUT_FILENO);
    close(broken[0]);
    forbid_the_rest(UNREAD);
    free_twice();
    show_alloc_mem();
    _exit(0);
}

static void showing(void) {
    struct cadastre_show what = {sizeof what, .what = CADASTRE_SHOW_BLOCKS, .hexdump = 16, .fd = STDERR_FILENO};
    strcpy(malloc(10), "hello");
    forbid_the_rest(SHOWING);
    _exit(show_alloc_mem_ex(&what) != 0 || show_alloc_mem_map(STDERR_FILENO) != 0);
}

static void counting(void) {
    struct cadastre_memory mapped, resident;
    forbid_the_rest(COUNTING);
    _exit(cadastre_resident(&mapped, &resident, sizeof mapped) != 0);
}

/* Its caller's frame is not on the page of its own. */
static __attribute__((noinline)) void allocate_deep(void) {
    char room[200000];
    __asm__ volatile("" : : "r"(room) : "memory");
    free(realloc(malloc(100), 5000));
    __asm__ volatile("" : : "r"(room) : "memory");
}

/* A thread that calls for the first time. */
static void *debug_in_thread(void *argument) {
    forbid_the_rest(DEBUGGING);
    allocate_deep();
    _exit(0);
    return argument;
}

static void debugging(void) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, debug_in_thread, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
}

#define ONE_ARENA "CADASTRE_ARENAS=1"

static const struct set_case cases[] = {
    {{"allocating and freeing", allocating}, NULL, ONE_ARENA},
    {{"reporting wrong frees", reporting}, NULL, NULL},
    {{"reporting where nobody reads", unread}, NULL, NULL},
    {{"showing the heap", showing}, NULL, NULL},
    {{"counting what is resident", counting}, NULL, NULL},
    {{"a debugging mode", debugging}, NULL, "CADASTRE_SCRIBBLE=1"},
};

static const unsigned doings[] = {ALLOCATING, REPORTING, UNREAD, SHOWING, COUNTING, DEBUGGING};

/* The time is read by the kernel's own function, where it maps one, and not by a system call. */
static int is_by_the_vdso(const struct allowed *call) {
    return call->number == SYS_clock_gettime && getauxval(AT_SYSINFO_EHDR) != 0;
}

/* Some calls are made where threads meet, which they do sooner or later. */
static void killed_without(size_t c, const char *call) {
    enum { TRIES = 40 };
    char without[64];
    snprintf(without, sizeof without, "WITHOUT=%s", call);
    const char *options[] = {without, cases[c].option, NULL};
    int killed = 0, skipped = 0;
    for (int i = 0; i < TRIES && !killed && !skipped; i++) {
        int status = run_case(cases[c].test_case.name, options, NULL)->status;
        killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
        skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
    }
    ok(killed || skipped, "%s: not without %s%s", cases[c].test_case.name, call,
       skipped ? " # SKIP not possible here" : "");
}

int main(int argc, char **argv) {
    for (size_t c = 0; c < COUNT(cases); c++) {
        const char *options[] = {cases[c].option, NULL};
        if (argc > 1 && strcmp(cases[c].test_case.name, argv[1]) == 0)
            return run_named(&cases[c].test_case, 1, argv[1]);
        if (argc > 1)
            continue;
        ok_case(cases[c].test_case.name, options, NULL);
        for (size_t i = 0; i < COUNT(calls); i++)
            if ((calls[i].doing & doings[c]) && !is_by_the_vdso(&calls[i]))
                killed_without(c, calls[i].name);
    }
    return argc > 1 ? 1 : tap_done();
}
