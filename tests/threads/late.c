/*
 * Calls at the end: from destructors of thread-specific data, through all their rounds, whichever of them runs after
 * the allocator's own; from thread_local destructors; from atexit handlers and destructors of the program; and from
 * detached threads that still run, and whose blocks are freed, while the process exits. Each case is a process of its
 * own.
 */
#include "api/heapmap.h"
#include "limits/memory.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <limits.h>
#include <malloc.h>
#include <pthread.h>

enum { KEYS = 6, THREADS = 300 };

/* What C++ compilers register the destructors of thread_local objects with. */
extern int __cxa_thread_atexit_impl(void (*destructor)(void *), void *object, void *dso);
extern char __dso_handle __attribute__((visibility("hidden")));

static pthread_key_t keys[KEYS];
static atomic_size_t rounds, wrong;

static const size_t sizes[KEYS] = {16, 100, 1000, 5000, 60000, 100000};

/* What a key holds: which key, and which round of destructors it is. */
struct specific {
    size_t key, round;
    unsigned char bytes[];
};

static void keep(size_t key, size_t round) {
    struct specific *specific = malloc(sizeof *specific + sizes[key]);
    specific->key = key;
    specific->round = round;
    pattern_write(specific->bytes, sizes[key], key + round);
    pthread_setspecific(keys[key], specific);
}

static void work_a_little(void) {
    for (size_t i = 0; i < KEYS; i++) {
        unsigned char *block = realloc(malloc(sizes[i]), sizes[i] * 2), *zeros = calloc(1, sizes[i]);
        if (zeros[0] || zeros[sizes[i] - 1])
            atomic_fetch_add(&wrong, 1);
        free(block);
        free(zeros);
    }
}

/* A key that is set again in its destructor is called again: the system allows PTHREAD_DESTRUCTOR_ITERATIONS rounds. */
static void destroy(void *value) {
    struct specific *specific = value;
    size_t key = specific->key, round = specific->round;
    if (!pattern_holds(specific->bytes, sizes[key], key + round))
        atomic_fetch_add(&wrong, 1);
    free(specific);
    atomic_fetch_add(&rounds, 1);
    work_a_little();
    if (round < PTHREAD_DESTRUCTOR_ITERATIONS)
        keep(key, round + 1);
}

static void *set_keys(void *argument) {
    if (argument) /* the allocator sees this thread for the first time in a destructor, or before */
        work_a_little();
    for (size_t key = 0; key < KEYS; key++)
        keep(key, 1);
    return NULL;
}

static void key_destructors(void) {
    pthread_t threads[10];
    size_t early = 0, early_live = 0;
    /* Half of the keys before the first malloc of the program, half after it. */
    for (size_t key = 0; key < KEYS / 2; key++)
        pthread_key_create(&keys[key], destroy);
    free(malloc(100));
    for (size_t key = KEYS / 2; key < KEYS; key++)
        pthread_key_create(&keys[key], destroy);
    for (size_t done = 0; done < THREADS; done += COUNT(threads)) {
        for (size_t i = 0; i < COUNT(threads); i++)
            check(pthread_create(&threads[i], NULL, set_keys, i % 2 ? &rounds : NULL) == 0, "no thread");
        for (size_t i = 0; i < COUNT(threads); i++)
            pthread_join(threads[i], NULL);
        if (done == THREADS / 3) {
            heapmap_read();
            malloc_trim(0); /* what is retained within the contract is no leak */
            early = resident();
            early_live = heapmap_read().count;
        }
    }
    size_t expected = (size_t)THREADS * KEYS * PTHREAD_DESTRUCTOR_ITERATIONS;
    check(atomic_load(&rounds) == expected, "%zu calls of destructors, not %zu", atomic_load(&rounds), expected);
    check(atomic_load(&wrong) == 0, "contents did not hold");
    size_t late_live = heapmap_read().count;
    malloc_trim(0);
    size_t late = resident();
    check(late < early + 4 * MIB, "resident: %zu KiB early, %zu KiB late", early / KIB, late / KIB);
    check(late_live <= early_live + COUNT(threads), "live blocks: %zu early, %zu late", early_live, late_live);
    expect_silence();
}

/* ---------------------------------------------------------------------------------- thread_local objects */
static void destroy_object(void *object) {
    if (!pattern_holds(object, 1000, 3))
        atomic_fetch_add(&wrong, 1);
    free(object);
    work_a_little();
    atomic_fetch_add(&rounds, 1);
}

static void *make_objects(void *argument) {
    for (int i = 0; i < 3; i++) {
        unsigned char *object = malloc(1000);
        pattern_write(object, 1000, 3);
        __cxa_thread_atexit_impl(destroy_object, object, &__dso_handle);
    }
    return argument;
}

static void thread_local_destructors(void) {
    pthread_t thread;
    for (int i = 0; i < 100; i++) {
        check(pthread_create(&thread, NULL, make_objects, NULL) == 0, "no thread");
        pthread_join(thread, NULL);
    }
    check(atomic_load(&rounds) == 300 && atomic_load(&wrong) == 0, "%zu objects destroyed, %zu wrong",
          atomic_load(&rounds), atomic_load(&wrong));
    expect_silence();
    make_objects(NULL); /* the main thread's go at exit */
}

/* ---------------------------------------------------------------------------------------------- at exit */
static unsigned char *from_main;
static int exiting;

static void at_exit(void) {
    check(pattern_holds(from_main, 5000, 9), "a block did not live till exit");
    free(from_main);
    work_a_little();
    struct heapmap map = heapmap_read();
    check(!map.error[0], "show_alloc_mem at exit: %s", map.error);
    from_main = malloc(5000);
    pattern_write(from_main, 5000, 10);
}

__attribute__((destructor)) static void last(void) {
    if (!exiting)
        return;
    check(pattern_holds(from_main, 5000, 10), "a block did not live from atexit to the destructors");
    free(from_main);
    work_a_little();
    expect_silence();
    static const char words[] = "# destructors of the program: reached\n";
    if (write(STDOUT_FILENO, words, sizeof words - 1) < 0)
        _exit(1);
}

static void exit_handlers(void) {
    exiting = 1;
    from_main = malloc(5000);
    pattern_write(from_main, 5000, 9);
    check(atexit(at_exit) == 0, "atexit");
}

/* What threads that nobody waits for have handed over: freed by a handler at exit, while they go on. */
enum { DETACHED = 4, HANDED = 200 };

static unsigned char *handed[DETACHED][HANDED];
static pthread_barrier_t all_handed;

static void free_handed(void) {
    for (size_t t = 0; t < DETACHED; t++) {
        for (size_t i = 0; i < HANDED; i++) {
            check(pattern_holds(handed[t][i], sizes[i % KEYS], t + i), "a detached thread's block changed");
            free(handed[t][i]);
        }
    }
}

static void *never_end(void *number) {
    size_t t = (size_t)(uintptr_t)number;
    for (size_t i = 0; i < HANDED; i++) {
        handed[t][i] = malloc(sizes[i % KEYS]);
        pattern_write(handed[t][i], sizes[i % KEYS], t + i);
    }
    pthread_barrier_wait(&all_handed);
    for (;;)
        work_a_little();
    return NULL;
}

static void exit_with_threads(void) {
    pthread_t thread;
    exit_handlers();
    check(atexit(free_handed) == 0, "atexit");
    pthread_barrier_init(&all_handed, NULL, DETACHED + 1);
    for (size_t t = 0; t < DETACHED; t++) {
        check(pthread_create(&thread, NULL, never_end, (void *)t) == 0, "no thread");
        pthread_detach(thread);
    }
    pthread_barrier_wait(&all_handed);
    usleep(2000);
}

/* The main thread may end before the others, who go on. */
static void *outlive_main(void *main_thread) {
    pthread_join(*(pthread_t *)main_thread, NULL);
    work_a_little();
    free(from_main);
    expect_silence();
    exit(0);
}

static void main_thread_ends_first(void) {
    static pthread_t main_thread;
    pthread_t thread;
    main_thread = pthread_self();
    from_main = malloc(5000);
    check(pthread_create(&thread, NULL, outlive_main, &main_thread) == 0, "no thread");
    pthread_exit(NULL);
}

static const struct test_case cases[] = {
    {"destructors of thread-specific data, four rounds", key_destructors},
    {"destructors of thread_local objects", thread_local_destructors},
    {"atexit handlers and destructors", exit_handlers},
    {"exit, freeing, while detached threads allocate", exit_with_threads},
    {"the main thread ends before the others", main_thread_ends_first},
};

int main(int argc, char **argv) {
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(cases); i++)
        ok_case(cases[i].name, NULL, NULL);
    for (int i = 0; i < 20; i++)
        ok_case("exit, freeing, while detached threads allocate", NULL, NULL);
    return tap_done();
}
