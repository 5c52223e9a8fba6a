/*
 * Threads that make, use and end mappings at once: their own, and one that another ends meanwhile; and forks among
 * them. A child that hangs is ended by its alarm.
 */
#include "mapper/mapper.h"

#include <pthread.h>

enum { THREADS = 4, STEPS = ROUNDS(20000), SHARED_ROUNDS = ROUNDS(3000), FORKS = ROUNDS(500), SLOTS = 16, SIZE = 9000 };

static void run(void *(*work)(void *), uintptr_t count) {
    pthread_t threads[THREADS];
    void *failed;
    for (uintptr_t i = 0; i < count; i++)
        check(pthread_create(&threads[i], NULL, work, (void *)i) == 0, "no thread");
    for (uintptr_t i = 0; i < count; i++) {
        pthread_join(threads[i], &failed);
        check(!failed, "thread %zu: %s", (size_t)i, (char *)failed);
    }
}

static t_mapping *make(struct rng *rng, const char *path, const char *name) {
    switch (rng_between(rng, 0, 3)) {
    case 0:
        return map_file(path, 0);
    case 1:
        return attach_shared_region(name, 1);
    default:
        return map_anonymous(SIZE, 0);
    }
}

/* Random calls on a thread's own mappings, of which handles of the past and of no time are passed as well. */
static void *use_own(void *number) {
    struct rng rng = rng_stream(6, (uintptr_t)number);
    static _Thread_local char data[SIZE], path[PATH_MAX], name[NAME_MAX + 2];
    t_mapping *all[SLOTS] = {NULL}, *old = NULL;
    snprintf(path, sizeof path, "%s", getenv("MAPPER_FILE"));
    snprintf(name, sizeof name, "/mapper-test-%d-common", (int)test_id);
    for (int step = 0; step < STEPS; step++) {
        t_mapping **slot = &all[rng_between(&rng, 0, SLOTS - 1)];
        if (*slot == NULL) {
            *slot = make(&rng, path, name);
            if (*slot == NULL || (*slot)->size != SIZE || (*slot)->addr == NULL)
                return "cannot map";
        } else if (step % 3 == 0) {
            if (unmap(*slot) != 0)
                return "cannot unmap";
            old = *slot;
            *slot = NULL;
        } else if (protect_mapping(*slot, step % 2 ? PROT_READ : PROT_NONE) != 0 ||
                   sync_mapping(*slot, MS_ASYNC) != 0 || mapping_check(*slot) != 0 ||
                   protect_mapping(*slot, PROT_READ) != 0 || mapping_read(*slot, 0, data, SIZE) != 0) {
            return "cannot use";
        }
        if (unmap(old) == 0)
            return "a second unmap did something";
    }
    for (size_t i = 0; i < SLOTS; i++)
        if (all[i] && unmap(all[i]) != 0)
            return "cannot unmap";
    return NULL;
}

static void each_with_its_own(void) {
    t_mapping *common = mapped(create_shared_region(region("common"), SIZE));
    setenv("MAPPER_FILE", make_file("own", SIZE, 1), 1);
    int fds = count_fds();
    run(use_own, THREADS);
    check(count_fds() == fds, "%d descriptors are left open", count_fds() - fds);
    expect_ok(unmap(common));
}

/* One handle, which all of them use and try to end; and memory with other contents takes its place at once. */
static _Atomic(t_mapping *) common;
static pthread_barrier_t begin, end;
static atomic_int ended;

static void *use_common(void *number) {
    static _Thread_local char data[SIZE];
    for (int round = 0; round < SHARED_ROUNDS; round++) {
        pthread_barrier_wait(&begin);
        t_mapping *mapping = atomic_load(&common);
        if ((uintptr_t)number == 0) {
            int result = unmap(mapping);
            atomic_fetch_add(&ended, result == 0);
            t_mapping *other = map_anonymous(SIZE, 0);
            if (other == NULL)
                return "cannot map";
            memset(other->addr, 0xEE, SIZE);
            if (unmap(other) != 0)
                return "cannot unmap";
        } else {
            int result;
            while ((result = mapping_read(mapping, 0, data, SIZE)) == 0) {
                if (!pattern_holds(data, SIZE, (uint64_t)round))
                    return "not what is in that mapping";
                if (sync_mapping(mapping, MS_ASYNC) != 0 || mapping_check(mapping) != 0)
                    break;
            }
            if (errno != EINVAL)
                return strerror(errno);
            atomic_fetch_add(&ended, unmap(mapping) == 0);
        }
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static void *make_common(void *unused_argument) {
    (void)unused_argument;
    for (int round = 0; round < SHARED_ROUNDS; round++) {
        t_mapping *mapping = map_anonymous(SIZE, 0);
        if (mapping == NULL)
            return "cannot map";
        pattern_write(mapping->addr, SIZE, (uint64_t)round);
        atomic_store(&ended, 0);
        atomic_store(&common, mapping);
        pthread_barrier_wait(&begin);
        pthread_barrier_wait(&end);
        if (atomic_load(&ended) != 1)
            return "not ended exactly once";
    }
    return NULL;
}

static void *use_or_make(void *number) {
    return (uintptr_t)number == THREADS - 1 ? make_common(NULL) : use_common(number);
}

static void one_ended_by_one(void) {
    pthread_barrier_init(&begin, NULL, THREADS);
    pthread_barrier_init(&end, NULL, THREADS);
    run(use_or_make, THREADS);
}

/* ------------------------------------------------------------------------------------------------ fork */
static atomic_int stop;

/* Makes and ends mappings, and is nearly always at `common`, so that a fork finds it pinned. */
static void *stay_busy(void *unused_argument) {
    static _Thread_local char data[64 << 10];
    (void)unused_argument;
    while (!atomic_load(&stop)) {
        t_mapping *own = map_anonymous(SIZE, 0);
        if (own == NULL || mapping_read(atomic_load(&common), 0, data, sizeof data) != 0 || unmap(own) != 0)
            return "cannot map, read or unmap";
    }
    return NULL;
}

static int works_in_child(void) {
    char data[16];
    alarm(20);
    t_mapping *own = map_anonymous(SIZE, 0), *shared = atomic_load(&common);
    return own && mapping_read(shared, 0, data, sizeof data) == 0 && unmap(own) == 0 && unmap(own) == -1 &&
           unmap(shared) == 0 && unmap(shared) == -1;
}

static void forks_among_them(void) {
    pthread_t threads[THREADS];
    void *failed;
    t_mapping *shared = mapped(map_anonymous(1 << 20, 1));
    atomic_store(&common, shared);
    for (int i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, stay_busy, NULL) == 0, "no thread");
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(!works_in_child());
        expect_child(child);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &failed);
        check(!failed, "%s", (char *)failed);
    }
    expect_ok(mapping_check(shared));
    expect_ok(unmap(shared));
}

static const struct test_case cases[] = {
    {"threads, each with its own mappings", each_with_its_own},
    {"a mapping that all use is ended by one of them", one_ended_by_one},
    {"forks while threads are at it", forks_among_them},
};

MAIN_OF_MAPPER_CASES(cases)
