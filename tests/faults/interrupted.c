/*
 * A thread that is just getting a thread cache is interrupted, at a system call of ours, by a handler that allocates;
 * one that is giving it away, and holds no lock at that instant, by one that forks. Each case is a process of its own.
 */
#include "arenas.h"
#include "cadastre.h"
#include "faults/kernel.h"
#include "misuse/child.h"
#include "tcaches.h"
#include "thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

enum { BLOCKS = 4000, SIZE_STEP = 8 };

static atomic_int interrupted; /* how often */

static unsigned count_caches(void) {
    size_t size, outgoing;
    unsigned count = 0;
    for (const struct tcache *cache = NULL; (cache = tcaches_look_up(cache, &size, &outgoing)) != NULL;)
        count++;
    return count;
}

static void *run_in_thread(void *(*run)(void *)) {
    pthread_t thread;
    void *result = NULL;
    check(pthread_create(&thread, NULL, run, NULL) == 0 && pthread_join(thread, &result) == 0, "no thread");
    return result;
}

/* -------------------------------------------------------------------------------------- getting a cache */
static __thread int is_new;

static void allocate(void) {
    if (!is_new || tcache_is_real(tcache_current))
        return;
    is_new = 0;
    atomic_fetch_add(&interrupted, 1);
    void *block = cadastre_malloc(1000);
    check(block, "no memory");
    cadastre_free(block);
}

static pthread_barrier_t all_have;

static void *get_cache(void *argument) {
    is_new = 1;
    cadastre_free(cadastre_malloc(100));
    check(tcache_is_real(tcache_current), "a thread has no cache");
    is_new = 0;
    pthread_barrier_wait(&all_have);
    return argument;
}

/* As many as it takes: not each needs memory from the kernel for its own. */
static void allocating(void) {
    enum { THREADS = 100 };
    pthread_t threads[THREADS];
    unsigned before = count_caches();
    pthread_barrier_init(&all_have, NULL, THREADS);
    kernel_interrupts = allocate;
    for (int i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, get_cache, NULL) == 0, "no thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check(interrupted > 0, "nobody was interrupted");
    check(count_caches() <= before + THREADS, "%u caches for %d threads", count_caches() - before, THREADS);
}

/* --------------------------------------------------------------------------------------- giving it away */
static __thread volatile sig_atomic_t is_ending;
static struct tcache *given_away;
static volatile pid_t child = -1;

static struct tcache *take_up(void) {
    tcache_set_current(NULL);
    tcaches_attach();
    return tcache_current;
}

/* Of all others, each once; and then a new one. */
static void *take_up_the_others(void *argument) {
    unsigned before = count_caches();
    for (unsigned i = 0; i < before; i++)
        check(take_up() != given_away, "two threads have one cache");
    check(count_caches() == before + 1, "%u caches are lost", count_caches() - before - 1);
    return argument;
}

static void *take_up_that(void *argument) {
    check(take_up() == given_away, "its cache is not there for others");
    return argument;
}

static void fork_once(int number) {
    (void)number;
    if (child >= 0 || !is_ending || tcache_is_real(tcache_current) || thread_own.in_hand == NULL || lock_holds_any())
        return;
    child = fork();
    if (child == 0)
        run_in_thread(take_up_the_others);
}

/* The destructor of a key that was made later than the library's, and so is called behind that. */
static void look(void *value) {
    (void)value;
    if (child == 0) {
        run_in_thread(take_up_that);
        _exit(0);
    }
}

static pthread_key_t later_key;

/* What may be retained is, and its cache holds more that is to be. */
static void *fill_and_end(void *argument) {
    static void *blocks[BLOCKS];
    pthread_setspecific(later_key, &later_key);
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = cadastre_malloc(1000 + i * SIZE_STEP);
    for (size_t i = 0; i < BLOCKS; i++)
        cadastre_free(blocks[i]);
    given_away = tcache_current;
    is_ending = 1;
    return argument;
}

static void interrupt_each(suseconds_t us) {
    const struct itimerval timer = {.it_interval.tv_usec = us, .it_value.tv_usec = us};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* As many threads as it takes until the timer finds one there. */
static void forking(void) {
    enum { THREADS = 20000 };
    struct sigaction action = {.sa_handler = fork_once, .sa_flags = SA_RESTART};
    int status = -1;
    arenas_limit_joining(1);
    check(pthread_key_create(&later_key, look) == 0, "no key");
    sigaction(SIGALRM, &action, NULL);
    interrupt_each(50);
    for (int i = 0; i < THREADS && child < 0; i++)
        run_in_thread(fill_and_end);
    interrupt_each(0);
    check(child > 0, "none of %d threads was interrupted", THREADS);
    check(waitpid(child, &status, 0) == child && status == 0, "the child failed");
}

static const struct test_case cases[] = {
    {"a handler allocates while its thread gets a cache", allocating},
    {"a handler forks while its thread gives its cache away", forking},
};

MAIN_OF_CASES(cases)
