/* Which thread has which cache: at a thread's end, and in a child of fork. */
#include "tcaches.h"
#include "cadastre.h"
#include "process.h"
#include "tap.h"
#include <pthread.h>
#include <sys/wait.h>

#define THREADS 24
#define FORKS   60

static atomic_int ready, go;

static void wait_until(atomic_int *number, int wanted) {
    while (load_acquire(number) < wanted)
        usleep(100);
}

static void use_cache(void) {
    void *block = cadastre_malloc(100);
    cadastre_free(block);
}

/* ------------------------------------------------------------------------------------------- the thread's end */
struct ending {
    pthread_t thread;
    struct arena *arena;
    struct tcache **current; /* the thread's variable */
};

static void *use_and_end(void *argument) {
    struct ending *ending = argument;
    use_cache();
    ending->arena = tcache_current->owner;
    ending->current = &tcache_current;
    add_relaxed(&ready, 1);
    wait_until(&go, 1);
    return NULL;
}

/* Its arena's lock is the first that a thread takes to give its cache away. */
static void ends_without(void) {
    struct ending ending;
    pthread_create(&ending.thread, NULL, use_and_end, &ending);
    wait_until(&ready, 1);
    bool had = tcache_is_real(*ending.current);
    arena_lock(ending.arena);
    store_release(&go, 1);
    while ((load_acquire(&ending.arena->lock.word) & 1) == 0) /* the thread waits for it */
        usleep(100);
    bool has = tcache_is_real(*ending.current);
    arena_unlock(ending.arena);
    pthread_join(ending.thread, NULL);
    ok(had && !has, "a thread ceases to have a cache before it gives it away");
}

/* ------------------------------------------------------------------------------------------------------ fork */
static void *use_and_wait(void *argument) {
    use_cache();
    add_relaxed(&ready, 1);
    wait_until(&go, 1);
    return argument;
}

static void *drain_and_drain(void *argument) {
    add_relaxed(&ready, 1);
    while (load_relaxed(&go) < 2)
        tcaches_drain_parked();
    return argument;
}

static unsigned count_caches(void) {
    size_t size, outgoing;
    unsigned count = 0;
    for (const struct tcache *cache = NULL; (cache = tcaches_look_up(cache, &size, &outgoing)) != NULL;)
        count++;
    return count;
}

/* All but its own can be had by other threads; the first that it made is for one more. */
static bool child_has_all(void) {
    unsigned count = count_caches();
    struct tcache *had[2 * THREADS + 2] = {tcache_current};
    for (unsigned i = 1; i <= count; i++) {
        tcache_set_current(NULL);
        tcaches_attach();
        had[i] = tcache_current;
        for (unsigned j = 0; j < i; j++)
            if (had[j] == had[i])
                return false;
        if (count_caches() != count + (i == count))
            return false;
    }
    return true;
}

static void child_loses_none(void) {
    pthread_t threads[THREADS], drainer;
    store_release(&ready, 0);
    store_release(&go, 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, use_and_wait, NULL);
    wait_until(&ready, THREADS);
    store_release(&go, 1);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_create(&drainer, NULL, drain_and_drain, NULL);
    wait_until(&ready, THREADS + 1);
    unsigned failed = 0;
    for (unsigned i = 0; i < FORKS; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0)
            _exit(child_has_all() ? 0 : 1);
        failed += pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
    }
    store_release(&go, 2);
    pthread_join(drainer, NULL);
    ok(failed == 0, "a child has each parked cache, also one that was just drained: not in %u of %u", failed, FORKS);
}

int main(void) {
    arenas_limit_joining(1);
    use_cache();
    ends_without();
    child_loses_none();
    return tap_done();
}
