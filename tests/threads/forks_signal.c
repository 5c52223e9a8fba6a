/*
 * fork, posix_spawn, vfork and system in a signal handler that has interrupted malloc or free, in a process of one
 * thread and in one of several. The parent goes on undisturbed; a child can exec and _exit. A child that allocates all
 * the same, in the handler or after it has returned, either can or says in one line why not and aborts; it never hangs.
 */
#include "cadastre.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/time.h>

enum { FORKS = 1000, ABORTS = 20, FORKS_MAX = 50000, SLOTS = 100, THREADS = 2, CHILD_MAX = 30, PAUSE_US = 300 };

/* Taken and freed over and over: below a lock more often than not. */
static const size_t sizes[] = {100, 30000, 30000, 60000, 300000, 20 << 20};

static struct slot {
    unsigned char *block;
    size_t size, tag;
} slots[SLOTS];

static volatile sig_atomic_t forks, in_child, aborts, with_threads;
static void (*volatile act)(void);
static atomic_bool stop;

static void rearm(void) {
    struct itimerval once = {.it_value = {.tv_usec = PAUSE_US}};
    setitimer(ITIMER_REAL, &once, NULL);
}

static void on_alarm(int signal) {
    int saved = errno;
    (void)signal;
    act();
    forks++;
    errno = saved;
    if (!in_child)
        rearm();
}

static int wait_for(pid_t child) {
    int status;
    check(child > 0, "no child: %s", strerror(errno));
    while (waitpid(child, &status, 0) != child)
        check(errno == EINTR, "waitpid: %s", strerror(errno));
    return status;
}

/* What the blocks hold is compared as they go: whatever a fork disturbs in the parent is seen there. */
static void replace(struct rng *rng, struct slot *slot) {
    unsigned char *block = slot->block;
    check(pattern_holds(block, slot->size, slot->tag), "a block has changed");
    slot->block = NULL; /* a child may free what it finds */
    atomic_signal_fence(memory_order_seq_cst);
    free(block);
    size_t size = sizes[rng_between(rng, 0, COUNT(sizes) - 1)];
    *slot = (struct slot){malloc(size), size < 64 ? size : 64, rng_next(rng)};
    check(slot->block, "no memory");
    pattern_write(slot->block, slot->size, slot->tag);
}

static void *churn(void *number) {
    struct rng rng = rng_stream(1, (uintptr_t)number);
    struct slot mine[SLOTS / 4] = {{NULL, 0, 0}};
    while (!atomic_load(&stop))
        replace(&rng, &mine[rng_between(&rng, 0, COUNT(mine) - 1)]);
    for (size_t i = 0; i < COUNT(mine); i++)
        free(mine[i].block);
    return NULL;
}

/* Until there were so many forks, and children that aborted. */
static void interrupt(void (*action)(void), int least_forks, int least_aborts) {
    struct sigaction on = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval never = {0};
    struct rng rng = rng_stream(2, 0);
    pthread_t threads[THREADS];
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarms, NULL);
    for (uintptr_t i = 0; with_threads && i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0, "no thread");
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
    act = action;
    sigaction(SIGALRM, &on, NULL);
    rearm();
    while (forks < least_forks || (aborts < least_aborts && forks < FORKS_MAX)) {
        replace(&rng, &slots[rng_between(&rng, 0, SLOTS - 1)]);
        if (in_child) { /* returned from the handler, and was let go on */
            for (int i = 0; i < 100; i++)
                replace(&rng, &slots[rng_between(&rng, 0, SLOTS - 1)]);
            _exit(0);
        }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    atomic_store(&stop, 1);
    for (size_t i = 0; with_threads && i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < SLOTS; i++)
        free(slots[i].block);
    check(aborts >= least_aborts, "%d children of %d have aborted", (int)aborts, (int)forks);
}

/* ----------------------------------------------------------------------------------- children that do not allocate */
extern char **environ;

static void run_true(void) {
    char *arguments[] = {(char *)"sh", (char *)"-c", (char *)":", NULL};
    execve("/bin/sh", arguments, environ);
    _exit(9);
}

static void fork_or_spawn(void) {
    char *arguments[] = {(char *)"sh", (char *)"-c", (char *)":", NULL};
    pid_t child;
    int status;
    switch (forks % 50) {
    case 10:
        check(posix_spawn(&child, "/bin/sh", NULL, NULL, arguments, environ) == 0, "posix_spawn");
        status = wait_for(child);
        break;
    case 20:
        status = system(":");
        break;
    case 30:
        child = vfork();
        if (child == 0)
            run_true();
        status = wait_for(child);
        break;
    default:
        child = fork();
        if (child == 0 && forks % 50 == 40)
            run_true();
        if (child == 0 && forks % 50 == 45) { /* one more, as who leaves its session does */
            pid_t grandchild = fork();
            if (grandchild == 0)
                _exit(0);
            _exit(wait_for(grandchild));
        }
        if (child == 0)
            _exit(0);
        status = wait_for(child);
    }
    check(status == 0, "child %d has ended with 0x%x", (int)forks, status);
}

static void one_thread(void) {
    interrupt(fork_or_spawn, FORKS, 0);
    expect_silence();
}

static void several_threads(void) {
    with_threads = 1;
    one_thread();
}

/* -------------------------------------------------------------------------------------- children that allocate */
static void expect_to_end_well(pid_t child) {
    int status = wait_for(child);
    if (status == 0)
        return;
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "child %d has ended with 0x%x", (int)forks, status);
    expect_report("malloc or free was called in the child of a fork that a signal handler made inside malloc, free or "
                  "fork; such a child can only exec or _exit");
    aborts++;
}

static pid_t fork_with_alarm(void) {
    pid_t child = fork();
    if (child == 0) {
        in_child = 1;
        signal(SIGALRM, SIG_DFL);
        alarm(CHILD_MAX);
    }
    return child;
}

static void allocate_in_child(void) {
    pid_t child = fork_with_alarm();
    if (child == 0) {
        size_t size = sizes[forks % COUNT(sizes)];
        void *block = forks % 3 == 0 ? calloc(1, size) : forks % 3 == 1 ? aligned_alloc(64, size) : malloc(size);
        free(realloc(block, 2 * size));
        free(slots[0].block);
        _exit(0);
    }
    expect_to_end_well(child);
}

static void free_in_child(void) {
    static const struct slot none;
    pid_t child = fork_with_alarm();
    if (child == 0) {
        for (size_t i = 0; i < SLOTS; i++) {
            free(slots[i].block);
            slots[i] = none;
        }
        _exit(0);
    }
    expect_to_end_well(child);
}

static void return_in_child(void) {
    pid_t child = fork_with_alarm();
    if (child != 0)
        expect_to_end_well(child);
}

static void allocates(void) {
    interrupt(allocate_in_child, 0, ABORTS);
    expect_silence();
}

static void frees(void) {
    interrupt(free_in_child, 0, ABORTS);
    expect_silence();
}

static void returns(void) {
    interrupt(return_in_child, 0, ABORTS);
    expect_silence();
}

static void allocates_threads(void) {
    with_threads = 1;
    allocates();
}

static void returns_threads(void) {
    with_threads = 1;
    returns();
}

static const struct test_case cases[] = {
    {"1,000 forks in a handler inside malloc", one_thread},
    {"the same, and other threads allocate", several_threads},
    {"children that allocate", allocates},
    {"children that free", frees},
    {"children that return from the handler", returns},
    {"children that allocate, of several threads", allocates_threads},
    {"children that return from the handler, of several threads", returns_threads},
};

MAIN_OF_CASES(cases)
