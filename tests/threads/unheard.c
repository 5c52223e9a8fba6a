/*
 * Threads that end without a destructor of ours: no key was left for one, or its value was lost, since the thread's
 * first call was the C library's own inside pthread_setspecific. Their caches serve later threads all the same, and no
 * thread that lives loses its own. The keys are taken before the library is initialised. Each case is a process of its
 * own.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <limits.h>
#include <malloc.h>
#include <pthread.h>

enum { SHORT = 2000, LASTING = 24, AT_ONCE = 40, BLOCKS = 60, FAR_KEY = 36, FAR_KEYS = 40 };

/* Beside those of threads that last, for each arena: one that waits for a thread, one in use, and two that are not
 * found at once. */
#define ARENAS_OPTION "CADASTRE_ARENAS=8"
enum { CACHES_MAX = 8 * 4 };

static pthread_key_t far_key;

#ifdef __GLIBC__
static void take_keys(int argc, char **argv) {
    pthread_key_t key;
    int left = argc < 2 ? 0 : strstr(argv[1], "far") ? FAR_KEYS : PTHREAD_KEYS_MAX;
    for (int i = 0; i < left && pthread_key_create(&key, NULL) == 0; i++)
        if (i == FAR_KEY)
            far_key = key;
}

__attribute__((section(".preinit_array"), used)) static void (*const taker)(int, char **) = take_keys;

static void *hold(void *lock) {
    pthread_mutex_lock(lock);
    return NULL;
}
#endif

/* Whether the kernel tells of threads that end: emulators may not. */
static int ends_are_told(void) {
#ifdef __GLIBC__
    static pthread_mutex_t lock;
    pthread_mutexattr_t attributes;
    pthread_t thread;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&lock, &attributes);
    return pthread_create(&thread, NULL, hold, &lock) == 0 && pthread_join(thread, NULL) == 0 &&
           pthread_mutex_trylock(&lock) == EOWNERDEAD;
#else
    return 0; /* nor does the library look for them */
#endif
}

static struct cadastre_stats stats(void) {
    struct cadastre_stats stats = {0};
    check(cadastre_stats(&stats, sizeof stats) == 0, "no statistics");
    return stats;
}

/* ------------------------------------------------------------------------------------------- short threads */
static void use_cache(uint64_t tag) {
    unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(16 + i * 50);
        pattern_write(blocks[i], 16 + i * 50, tag + i);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        check(pattern_holds(blocks[i], 16 + i * 50, tag + i), "a block changed");
        free(blocks[i]);
    }
}

static void *live_shortly(void *tag) {
    if (far_key)
        pthread_setspecific(far_key, tag);
    use_cache((uintptr_t)tag);
    return NULL;
}

static void have_short_threads(size_t count) {
    pthread_t thread;
    for (size_t i = 0; i < count; i++)
        check(pthread_create(&thread, NULL, live_shortly, (void *)(i + 1)) == 0 && pthread_join(thread, NULL) == 0,
              "no thread");
}

static void short_threads(void) {
    have_short_threads(SHORT / 10);
    struct cadastre_stats early = stats();
    size_t early_resident = resident();
    have_short_threads(SHORT);
    struct cadastre_stats late = stats();
    check(late.caches <= CACHES_MAX, "%llu caches of %d threads", (unsigned long long)late.caches, SHORT);
    check(late.live_blocks <= early.live_blocks + 10, "live blocks: %llu early, %llu late",
          (unsigned long long)early.live_blocks, (unsigned long long)late.live_blocks);
    check(resident() < early_resident + 4 * MIB, "resident: %zu KiB early, %zu KiB late", early_resident / KIB,
          resident() / KIB);
    expect_silence();
}

/* ------------------------------------------------------------------------------------- threads that go on */
static atomic_int waiting, go_on;

static void wait_for_go(void) {
    atomic_fetch_add(&waiting, 1);
    while (!atomic_load(&go_on))
        usleep(1000);
}

static void start_waiting(pthread_t *threads, size_t count, void *(*run)(void *)) {
    for (size_t i = 0; i < count; i++)
        check(pthread_create(&threads[i], NULL, run, (void *)((i + 1) << 20)) == 0, "no thread");
    while (atomic_load(&waiting) < (int)count)
        usleep(1000);
}

static void end_waiting(pthread_t *threads, size_t count) {
    atomic_store(&go_on, 1);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* Two that share a cache hand out one block twice, sooner or later. */
static void *last(void *tag) {
    use_cache((uintptr_t)tag);
    wait_for_go();
    for (uint64_t i = 0; i < 200; i++)
        use_cache((uintptr_t)tag + i * BLOCKS);
    return NULL;
}

/* Its first call is a child's of vfork, which is a process of its own and the same thread. */
static void *last_after_vfork(void *tag) {
    pid_t child = vfork();
    if (child == 0) {
        free(malloc(100));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return last(tag);
}

static void keep_lasting(void *(*run)(void *)) {
    pthread_t threads[LASTING];
    start_waiting(threads, LASTING, run);
    have_short_threads(SHORT / 2);
    size_t caches = (size_t)stats().caches;
    check(caches <= LASTING + CACHES_MAX + LASTING / 4, "%zu caches beside %d threads", caches, LASTING);
    for (size_t i = 0; i < 100; i++) {
        if (i == 50)
            atomic_store(&go_on, 1);
        have_short_threads(5);
    }
    end_waiting(threads, LASTING);
    expect_silence();
}

static void lasting_threads(void) {
    keep_lasting(last);
}

static void lasting_after_vfork(void) {
    keep_lasting(last_after_vfork);
}

/* ------------------------------------------------------------------------------------------------- trimming */
static void *leave_much(void *tag) {
    for (int i = 0; i < 5; i++)
        use_cache((uintptr_t)tag);
    wait_for_go();
    return NULL;
}

static void trimming(void) {
    pthread_t threads[AT_ONCE];
    start_waiting(threads, AT_ONCE, leave_much);
    size_t cached = (size_t)stats().cached_blocks;
    end_waiting(threads, AT_ONCE);
    malloc_trim(0);
    size_t left = (size_t)stats().cached_blocks;
    check(cached > AT_ONCE * BLOCKS && left < AT_ONCE, "%zu cached blocks, %zu when their threads have ended", cached,
          left);
    expect_silence();
}

/* ------------------------------------------------------------------------------------------------- forking */
/* The forking thread keeps its cache in the child, and is found when it ends there. */
static void *fork_and_end(void *tag) {
    use_cache((uintptr_t)tag);
    pid_t pid = fork();
    if (pid == 0) {
        size_t inherited = (size_t)stats().caches;
        for (uint64_t i = 0; i < 20; i++) {
            have_short_threads(10);
            use_cache(i * BLOCKS);
        }
        size_t caches = (size_t)stats().caches;
        check(caches <= inherited + CACHES_MAX, "%zu caches in the child, %zu at first", caches, inherited);
        _exit(0);
    }
    int status;
    check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "a child failed");
    return NULL;
}

static void forking(void) {
    pthread_t lasting[LASTING], thread;
    start_waiting(lasting, LASTING, last);
    for (size_t i = 0; i < 20; i++)
        check(pthread_create(&thread, NULL, fork_and_end, (void *)(i + 1)) == 0 && pthread_join(thread, NULL) == 0,
              "no thread");
    end_waiting(lasting, LASTING);
    expect_silence();
}

static const struct test_case cases[] = {
    {"no key: short threads", short_threads},
    {"far key, first call in pthread_setspecific: short threads", short_threads},
    {"no key: threads that last", lasting_threads},
    {"far key, first call in pthread_setspecific: threads that last", lasting_threads},
    {"no key: threads that last, whose first call was in a child of vfork", lasting_after_vfork},
    {"no key: malloc_trim", trimming},
    {"no key: fork", forking},
};

int main(int argc, char **argv) {
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    static const char *const options[] = {ARENAS_OPTION, NULL};
    int told = ends_are_told();
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (told)
            ok_case(cases[i].name, options, NULL);
        else
            ok(1, "%s # SKIP the end of a thread is not told here", cases[i].name);
    }
    return tap_done();
}
