/*
 * What the tests of ring_buffer share: cases in processes of their own, with names in /dev/shm that are gone when the
 * test ends; children and threads; and the words that processes share, where a test looks at them or damages them.
 */
#ifndef RING_RING_H
#define RING_RING_H

#include "../src/mapper/ring_layout.h"
#include "misuse/child.h"
#include "ring_buffer.h"

#include <dirent.h>
#include <pthread.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || UNDER_TSAN
#define SLOWER 4 /* a sanitizer's runs do so many times less */
#else
#define SLOWER 1
#endif

/* "/ring-test-ID-which", in one of a few buffers; the cases have their test's ID. */
__attribute__((unused)) static const char *ring_name(const char *which) {
    static char names[8][64];
    static unsigned next;
    char *name = names[next++ % COUNT(names)];
    snprintf(name, sizeof names[0], "/ring-test-%s-%s", getenv("RING_TEST"), which);
    return name;
}

/* Whether anything of the test's is in /dev/shm. */
__attribute__((unused)) static int any_region(int remove_it) {
    const char *ours = ring_name("") + 1;
    int found = 0;
    DIR *directory = opendir("/dev/shm");
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (strncmp(entry->d_name, ours, strlen(ours)) == 0) {
            found = 1;
            if (remove_it)
                unlinkat(dirfd(directory), entry->d_name, 0);
        }
    }
    closedir(directory);
    return found;
}

__attribute__((unused)) static struct ring_shared *shared_of(t_ring_buffer *ring) {
    return ring->mapping->addr;
}

/* In a case: a ring, or the end of it. */
#define opened(call) opened_at((call), #call, __LINE__)

__attribute__((unused)) static t_ring_buffer *opened_at(t_ring_buffer *ring, const char *call, int line) {
    if (!ring) {
        diag("line %d: %s: %s", line, call, strerror(errno));
        _exit(1);
    }
    return ring;
}

__attribute__((unused)) static t_ring_buffer *a_ring(size_t capacity, int flags) {
    return opened(create_ring_buffer_ex(ring_name("ring"), capacity, flags | RING_REPLACE, 0600));
}

/* In a case: the call gives this, or fails with this errno. */
#define expect(call, result)                                                                                           \
    do {                                                                                                               \
        ssize_t result_ = (call);                                                                                      \
        check(result_ == (ssize_t)(result), "gives %zd: %s", result_, strerror(errno));                                \
    } while (0)

#define expect_error(call, error)                                                                                      \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        ssize_t result_ = (ssize_t)(call);                                                                             \
        check(result_ == -1 && errno == (error), "gives %zd: %s", result_, strerror(errno));                           \
    } while (0)

#define expect_null(call, error)                                                                                       \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        const void *result_ = (call);                                                                                  \
        check(!result_ && errno == (error), "gives %p: %s", result_, strerror(errno));                                 \
    } while (0)

/* In a case: fork. A child that its case forgets ends with it. */
__attribute__((unused)) static pid_t child_begins(void) {
    pid_t pid = fork();
    check(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0)
        alarm(60);
    return pid;
}

/* In a case: the child's end; it must be 0. */
#define expect_child(pid) expect_child_at((pid), __LINE__)

__attribute__((unused)) static void expect_child_at(pid_t pid, int line) {
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    check(status == 0, "line %d: a child ended with status %#x", line, status);
}

__attribute__((unused)) static void child_killed(pid_t pid) {
    int status;
    kill(pid, SIGKILL);
    check(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
          "a child ended by itself, with status %#x", status);
}

/* Until somebody of that side sleeps, having found nothing; he has the turn. */
__attribute__((unused)) static void until_asleep(struct ring_side *side) {
    while (atomic_load(&side->wanted) == 0)
        usleep(100);
    usleep(1000);
}

__attribute__((unused)) static pthread_t thread_begins(void *(*run)(void *), void *argument) {
    pthread_t thread;
    check(pthread_create(&thread, NULL, run, argument) == 0, "no thread");
    return thread;
}

__attribute__((unused)) static void *thread_ends(pthread_t thread) {
    void *result;
    check(pthread_join(thread, &result) == 0, "a thread cannot be joined");
    return result;
}

static int run_ring_cases(const struct test_case *cases, size_t count, const char *name) {
    char id[20];
    if (name)
        return run_named(cases, count, name);
    snprintf(id, sizeof id, "%d", (int)getpid());
    setenv("RING_TEST", id, 1);
    for (size_t i = 0; i < count; i++) {
        ok_case(cases[i].name, NULL, NULL);
        any_region(1);
    }
    return tap_done();
}

#define MAIN_OF_RING_CASES(cases)                                                                                      \
    int main(int argc, char **argv) {                                                                                  \
        return run_ring_cases(cases, COUNT(cases), argc > 1 ? argv[1] : NULL);                                         \
    }

#endif
