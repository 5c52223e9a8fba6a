/*
 * Forks while the threads operate. A child goes on with a heap in which threads stopped anywhere: it takes and frees,
 * starts a thread, looks at the heap, and forks now and then itself. One that hangs is ended by its alarm.
 */
#include "stress.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

enum { FORKERS = 2, CHILD_STEPS = 200, CHILD_SECONDS = 60, STACK_SIZE = 4 << 20 };

/* A child's thread has a stack of its own: on that of a vanished thread it would be taken for that one by
 * ThreadSanitizer, to which all of them live on. */
static _Alignas(4096) char stack[STACK_SIZE];

static void *operate_in_child(void *worker) {
    operate(worker, CHILD_STEPS);
    return NULL;
}

static void fork_and_wait(struct worker *worker, unsigned depth);

static _Noreturn void be_a_child(struct worker *worker, unsigned depth) {
    struct worker thread = {.rng = rng_stream(rng_next(&worker->rng), depth)};
    pthread_attr_t attributes;
    alarm(CHILD_SECONDS);
    operate(worker, CHILD_STEPS);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, sizeof stack);
    must(pthread_create(&thread.thread, &attributes, operate_in_child, &thread) == 0, "no thread in a child");
    pthread_join(thread.thread, NULL);
    if (rng_between(&worker->rng, 0, 3) == 0)
        malloc_trim(0);
    if (rng_between(&worker->rng, 0, 3) == 0)
        show_alloc_mem();
    if (depth < 2 && rng_between(&worker->rng, 0, 7) == 0)
        fork_and_wait(worker, depth + 1);
    heap_must_be_valid();
    operate(worker, CHILD_STEPS);
    _exit(0);
}

static void fork_and_wait(struct worker *worker, unsigned depth) {
    uint64_t seed = rng_next(&worker->rng);
    pid_t pid = fork();
    int status = -1;
    must(pid >= 0, "no child: %s", strerror(errno));
    if (pid == 0) {
        worker->rng = rng_stream(seed, depth);
        be_a_child(worker, depth);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    must(status == 0, "child %zu ends with the wait status 0x%x", worker->operations, (unsigned)status);
    worker->operations++;
}

static atomic_uint begun;

/*
 * Two threads fork, and the others are in the midst of something: of ours, so not before all have begun.
 * AddressSanitizer allocates when a thread begins, and would hang in a child whose parent forked then.
 */
static void work(struct worker *worker) {
    atomic_fetch_add(&begun, 1);
    while (atomic_load(&begun) < stress.threads)
        sched_yield();
    if (worker->index >= FORKERS)
        operate(worker, 0);
    while (goes_on())
        fork_and_wait(worker, 0);
}

void run_forks(void) {
    struct rng rng = rng_stream(stress.seed, THREADS_MAX);
    run_threads(work, NULL);
    release_shared(&rng);
}
