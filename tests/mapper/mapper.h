/*
 * What the tests of memory_mapper share: cases in processes of their own, names and files that are gone when the test
 * ends, and looks at what this process has open and mapped.
 */
#ifndef MAPPER_MAPPER_H
#define MAPPER_MAPPER_H

#include "limits/memory.h"
#include "memory_mapper.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <sys/stat.h>

#define SHM "/dev/shm"

/* A sanitizer makes everything slow: so many rounds are enough there. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define ROUNDS(rounds) ((rounds) / 10)
#else
#define ROUNDS(rounds) (rounds)
#endif

static pid_t test_id; /* the test's; its cases and their children have it, too */

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* "/mapper-test-ID-which", in one of a few buffers. */
__attribute__((unused)) static const char *region(const char *which) {
    static char names[8][NAME_MAX + 2];
    static unsigned next;
    char *name = names[next++ % COUNT(names)];
    snprintf(name, sizeof names[0], "/mapper-test-%d-%s", (int)test_id, which);
    return name;
}

/* Where a region, or what stands in for one, can be found. */
__attribute__((unused)) static const char *region_path(const char *which) {
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % COUNT(paths)];
    snprintf(path, sizeof paths[0], SHM "%s", region(which));
    return path;
}

/* A path in a directory of the test's own. */
__attribute__((unused)) static const char *scratch(const char *which) {
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % COUNT(paths)];
    const char *top = getenv("TMPDIR");
    snprintf(path, sizeof paths[0], "%s/mapper-test-%d%s%s", top && *top ? top : "/tmp", (int)test_id,
             *which ? "/" : "", which);
    return path;
}

/* Whether it is zeroed. */
__attribute__((unused)) static int is_zero(const char *data, size_t size) {
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* A file of the pattern in the test's directory; its path. */
__attribute__((unused)) static const char *make_file(const char *which, size_t size, unsigned seed) {
    static unsigned char bytes[1 << 16];
    const char *path = scratch(which);
    check(size <= sizeof bytes, "%zu bytes are too many for this", size);
    pattern_write(bytes, size, seed);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0 && write(fd, bytes, size) == (ssize_t)size, "%s: %s", path, strerror(errno));
    close(fd);
    return path;
}

/* Whether what stands in the file, read by itself, is the pattern. */
__attribute__((unused)) static int file_is(const char *path, size_t size, unsigned seed) {
    static unsigned char bytes[1 << 16];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = read(fd, bytes, sizeof bytes);
    close(fd);
    return got == (ssize_t)size && pattern_holds(bytes, size, seed);
}

__attribute__((unused)) static int count_fds(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* How many of the pages from `start` are mapped; 0 where msync finds none. */
__attribute__((unused)) static size_t mapped_pages(const void *start, size_t size) {
    size_t count = 0;
    for (size_t at = 0; at < size; at += page_size()) {
        unsigned char resident;
        count += mincore((char *)start + at, 1, &resident) == 0;
    }
    return count;
}

/* Whether the test has any object in /dev/shm. */
__attribute__((unused)) static int any_region(int remove_it) {
    char path[PATH_MAX];
    const char *ours = region("") + 1;
    int found = 0;
    DIR *directory = opendir(SHM);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (strncmp(entry->d_name, ours, strlen(ours)) != 0)
            continue;
        found = 1;
        snprintf(path, sizeof path, SHM "/%s", entry->d_name);
        if (remove_it && unlink(path) != 0)
            rmdir(path);
    }
    closedir(directory);
    return found;
}

/* In a case: the call fails with this errno. */
#define expect_null(call, error)                                                                                       \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        const void *result_ = (call);                                                                                  \
        check(!result_ && errno == (error), "gives %p: %s", result_, strerror(errno));                                 \
    } while (0)

#define expect_error(call, error)                                                                                      \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        int result_ = (call);                                                                                          \
        check(result_ == -1 && errno == (error), "gives %d: %s", result_, strerror(errno));                            \
    } while (0)

#define expect_ok(call) check((call) == 0, "%s", strerror(errno))

/* In a case: a mapping, or the end of it. */
#define mapped(call) mapped_at((call), #call, __LINE__)

__attribute__((unused)) static t_mapping *mapped_at(t_mapping *mapping, const char *call, int line) {
    if (mapping == NULL || mapping->addr == NULL || mapping->addr == MAP_FAILED) {
        diag("line %d: %s: %s", line, call, strerror(errno));
        _exit(1);
    }
    return mapping;
}

/* In a case: the child's end; it must be 0. */
#define expect_child(pid) expect_child_at((pid), __LINE__)

__attribute__((unused)) static void expect_child_at(pid_t pid, int line) {
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    check(status == 0, "line %d: a child ended with status %#x", line, status);
}

__attribute__((unused)) static void wait_ms(int ms) {
    usleep((useconds_t)ms * 1000);
}

static int run_mapper_cases(const struct test_case *cases, size_t count, const char *name) {
    char command[PATH_MAX + 20];
    if (name) {
        test_id = atoi(getenv("MAPPER_TEST"));
        return run_named(cases, count, name);
    }
    test_id = getpid();
    snprintf(command, sizeof command, "%d", (int)test_id);
    setenv("MAPPER_TEST", command, 1);
    mkdir(scratch(""), 0700);
    for (size_t i = 0; i < count; i++) {
        ok_case(cases[i].name, NULL, NULL);
        any_region(1);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", scratch(""));
    return system(command) == 0 ? tap_done() : 1;
}

#define MAIN_OF_MAPPER_CASES(cases)                                                                                    \
    int main(int argc, char **argv) {                                                                                  \
        return run_mapper_cases(cases, COUNT(cases), argc > 1 ? argv[1] : NULL);                                       \
    }

#endif
