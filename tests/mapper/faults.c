/*
 * Every system call of memory_mapper refused in turn, alone and together with each that follows: what was asked for
 * fails as a whole, errno is of the first that was refused, and nothing is left. And each that a signal can interrupt,
 * interrupted: then nothing fails. The linker leads the library's calls here (--wrap, in the Makefile).
 */
#include "mapper/mapper.h"

#include <sys/resource.h>
#include <sys/uio.h>

enum { SIZE = 3 * 4096 + 5, FIRST = 200, SECOND = 201 }; /* errnos that no kernel has */

/* What is refused: call number `refused[0]` since arming, with FIRST; and `refused[1]`, with SECOND. */
static int armed, calls, refused[2];
static int first_error; /* that has to be reported; 0: none */
static int interrupted; /* instead of that, the refused call says EINTR */
static const char *names[2];

/* Mapped by the library; and of it, what munmap was refused for, which cannot but be left. */
static size_t mapped_bytes, stuck_bytes;
static int stuck_region;

enum kind { CAN_FAIL, CAN_BE_INTERRUPTED, IS_ADVICE };

static int is_refused(const char *name, enum kind kind) {
    if (!armed)
        return 0;
    calls++;
    for (int i = 0; i < 2; i++) {
        if (calls != refused[i] || (interrupted && kind != CAN_BE_INTERRUPTED))
            continue;
        names[i] = name;
        errno = interrupted ? EINTR : i == 0 ? FIRST : SECOND;
        if (first_error == 0 && !interrupted && kind != IS_ADVICE)
            first_error = errno;
        return 1;
    }
    return 0;
}

#define WRAPPED(type, name, kind, parameters, arguments, failure)                                                      \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters {                                                                                    \
        return is_refused(#name, kind) ? (failure) : __real_##name arguments;                                          \
    }

WRAPPED(int, stat, CAN_FAIL, (const char *path, struct stat *status), (path, status), -1)
WRAPPED(int, fstat, CAN_FAIL, (int fd, struct stat *status), (fd, status), -1)
WRAPPED(int, shm_open, CAN_BE_INTERRUPTED, (const char *name, int flags, mode_t mode), (name, flags, mode), -1)
WRAPPED(int, mprotect, CAN_FAIL, (void *addr, size_t size, int prot), (addr, size, prot), -1)
WRAPPED(int, msync, CAN_BE_INTERRUPTED, (void *addr, size_t size, int flags), (addr, size, flags), -1)
WRAPPED(int, getrlimit, IS_ADVICE, (__rlimit_resource_t which, struct rlimit *limit), (which, limit), -1)
WRAPPED(ssize_t, process_vm_readv, CAN_BE_INTERRUPTED,
        (pid_t pid, const struct iovec *to, unsigned long n, const struct iovec *from, unsigned long m,
         unsigned long flags),
        (pid, to, n, from, m, flags), -1)
WRAPPED(ssize_t, process_vm_writev, CAN_BE_INTERRUPTED,
        (pid_t pid, const struct iovec *from, unsigned long n, const struct iovec *to, unsigned long m,
         unsigned long flags),
        (pid, from, n, to, m, flags), -1)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    return is_refused("open", CAN_BE_INTERRUPTED) ? -1 : __real_open(path, flags);
}

/* What happens while the memory of a region is reserved; NULL: nothing of note. */
static void (*while_reserving)(void);

int __real_fallocate(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size) {
    if (while_reserving)
        while_reserving();
    return is_refused("fallocate", CAN_BE_INTERRUPTED) ? -1 : __real_fallocate(fd, mode, at, size);
}

/* Linux closes even where it reports an error. */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd) {
    int result = __real_close(fd);
    return is_refused("close", CAN_BE_INTERRUPTED) ? -1 : result;
}

int __real_shm_unlink(const char *name);
int __wrap_shm_unlink(const char *name);
int __wrap_shm_unlink(const char *name) {
    if (!is_refused("shm_unlink", CAN_FAIL))
        return __real_shm_unlink(name);
    stuck_region = 1;
    return -1;
}

static size_t in_pages(size_t size) {
    return (size + page_size() - 1) / page_size() * page_size();
}

void *__real_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t at);
void *__wrap_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t at);
void *__wrap_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t at) {
    void *result = is_refused("mmap", CAN_FAIL) ? MAP_FAILED : __real_mmap(addr, size, prot, flags, fd, at);
    mapped_bytes += result == MAP_FAILED ? 0 : in_pages(size);
    return result;
}

int __real_munmap(void *addr, size_t size);
int __wrap_munmap(void *addr, size_t size);
int __wrap_munmap(void *addr, size_t size) {
    if (is_refused("munmap", CAN_FAIL)) {
        stuck_bytes += in_pages(size);
        return -1;
    }
    int result = __real_munmap(addr, size);
    mapped_bytes -= result == 0 ? in_pages(size) : 0;
    return result;
}

/* --------------------------------------------------------------------------------------- the operations
 * Each gives a mapping that it made, or the one that it was given, or NULL when the call failed. */
static const char *path;
static t_mapping *given;

static t_mapping *read_file(void) {
    return map_file(path, 0);
}

static t_mapping *write_file(void) {
    return map_file(path, 1);
}

static t_mapping *make_memory(void) {
    return map_anonymous(SIZE, 1);
}

static t_mapping *create(void) {
    return create_shared_region(region("new"), SIZE);
}

static t_mapping *replace(void) {
    return create_shared_region_ex(region("new"), SIZE, MAPPER_REPLACE, 0600);
}

static t_mapping *attach(void) {
    return attach_shared_region(region("there"), 1);
}

static t_mapping *sync_it(void) {
    return sync_mapping(given, MS_SYNC) == 0 ? given : NULL;
}

static t_mapping *protect(void) {
    return protect_mapping(given, PROT_READ) == 0 ? given : NULL;
}

static t_mapping *look(void) {
    return mapping_check(given) == 0 ? given : NULL;
}

static t_mapping *copy_out(void) {
    char data[100];
    return mapping_read(given, 5, data, sizeof data) == 0 ? given : NULL;
}

static t_mapping *copy_in(void) {
    char data[100] = "";
    return mapping_write(given, 5, data, sizeof data) == 0 ? given : NULL;
}

static t_mapping *end_it(void) {
    return unmap(given) == 0 ? given : NULL;
}

static t_mapping *destroy(void) {
    return destroy_shared_region(region("there")) == 0 ? given : NULL;
}

static const struct operation {
    const char *name;
    t_mapping *(*run)(void);
    int makes, needs_calls;
} operations[] = {
    {"map_file", read_file, 1, 5},
    {"map_file, writable", write_file, 1, 5},
    {"map_anonymous", make_memory, 1, 2},
    {"create_shared_region", create, 1, 5},
    {"create_shared_region_ex, replacing", replace, 1, 5},
    {"attach_shared_region", attach, 1, 4},
    {"sync_mapping", sync_it, 0, 1},
    {"protect_mapping", protect, 0, 1},
    {"mapping_check", look, 0, 1},
    {"mapping_read", copy_out, 0, 1},
    {"mapping_write", copy_in, 0, 1},
    {"unmap", end_it, 0, 3},
    {"destroy_shared_region", destroy, 0, 1},
};

/* Runs the operation with these calls refused, from a state that is always the same, to one in which nothing is left. 1
 * if any was. */
static int try_once(const struct operation *operation, int first, int second) {
    t_mapping *there = mapped(create_shared_region(region("there"), SIZE));
    given = operation->makes ? NULL : mapped(attach_shared_region(region("there"), 1));
    int fds = count_fds();
    size_t bytes = mapped_bytes;
    refused[0] = first, refused[1] = second;
    names[0] = names[1] = NULL;
    calls = first_error = stuck_region = 0;
    stuck_bytes = 0;
    errno = 0;

    armed = 1;
    t_mapping *result = operation->run();
    armed = 0;
    int error = errno;
    const char *what = names[0] ? names[0] : "nothing", *also = names[1] ? names[1] : "nothing";

    check((result == NULL) == (first_error != 0), "%s succeeds, or fails, with %s and %s refused", operation->name,
          what, also);
    check(result || error == first_error, "%s, with %s and %s refused: %s, and not %d", operation->name, what, also,
          strerror(error), first_error);
    if (result && operation->makes)
        expect_ok(unmap(result));
    int is_live = given && mapping_check(given) == 0;
    check(operation->run == end_it || is_live == !operation->makes, "%s ended the mapping", operation->name);
    check(!is_live || given->prot == (result && operation->run == protect ? PROT_READ : PROT_READ | PROT_WRITE),
          "%s: prot %d", operation->name, given->prot);
    if (operation->run == end_it && is_live) { /* refused as a whole: nothing was changed */
        check(count_fds() == fds && mapped_bytes == bytes, "%s changed something", operation->name);
        stuck_bytes = 0;
    }
    if (is_live)
        expect_ok(unmap(given));
    if (operation->makes)
        check(count_fds() == fds, "%s, with %s and %s refused, leaves descriptors", operation->name, what, also);
    else
        check(count_fds() == fds - 1, "%s, with %s and %s refused, leaves descriptors", operation->name, what, also);
    expect_ok(unmap(there));
    check(mapped_bytes == stuck_bytes, "%s, with %s and %s refused, leaves %zu bytes, of which %zu are stuck",
          operation->name, what, also, mapped_bytes, stuck_bytes);
    mapped_bytes = 0;
    if (operation->run != destroy || !result)
        expect_ok(destroy_shared_region(region("there")));
    check(access(region_path("new"), F_OK) != 0 || result || stuck_region,
          "%s, with %s and %s refused, leaves a region", operation->name, what, also);
    if (access(region_path("new"), F_OK) == 0)
        expect_ok(destroy_shared_region(region("new")));
    return names[0] != NULL;
}

static void refuse_in_turn(void) {
    int tries = 0;
    path = strdup(make_file("file", SIZE, 1));
    for (size_t i = 0; i < COUNT(operations); i++) {
        int first = 1;
        for (; try_once(&operations[i], first, 0); first++)
            for (int second = first + 1; try_once(&operations[i], first, second) && names[1]; second++)
                tries++;
        check(first - 1 >= operations[i].needs_calls, "%s made only %d calls", operations[i].name, first - 1);
        tries += first;
    }
    diag("%d tries", tries);
    free((char *)path);
}

static void interrupt_in_turn(void) {
    int times = 0;
    path = strdup(make_file("file", SIZE, 1));
    interrupted = 1;
    for (size_t i = 0; i < COUNT(operations); i++) {
        for (int first = 1; first < 20; first++)
            times += try_once(&operations[i], first, first + 1);
    }
    check(times >= 11, "only %d calls were interrupted", times);
    diag("%d calls were interrupted", times);
    free((char *)path);
}

/* An attach that finds a region empty opens it anew, again and again. */
static void refuse_while_waiting(void) {
    for (int first = 1; first < 40; first++) {
        int fds = count_fds();
        close(open(region_path("empty"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        calls = first_error = 0;
        refused[0] = first, refused[1] = 0;
        armed = 1;
        t_mapping *found = attach_shared_region(region("empty"), 1);
        armed = 0;
        check(!found && errno == FIRST, "errno is %s", strerror(errno));
        check(count_fds() == fds && mapped_bytes == stuck_bytes, "descriptors or pages are left");
        mapped_bytes = stuck_bytes = 0;
    }
}

/* On older kernels a signal undoes what was reserved, and at short intervals that comes to no end. */
static void expect_signals_blocked(void) {
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    check(sigismember(&blocked, SIGALRM) && sigismember(&blocked, SIGPROF), "signals are not blocked");
    while_reserving = NULL;
}

static void signals_wait(void) {
    sigset_t blocked;
    while_reserving = expect_signals_blocked;
    expect_ok(unmap(mapped(create_shared_region(region("new"), SIZE))));
    check(!while_reserving, "nothing was reserved");
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    check(!sigismember(&blocked, SIGALRM), "signals stay blocked");
}

static t_mapping *others;

static void replace_meanwhile(void) {
    while_reserving = NULL;
    armed = 0;
    others = mapped(create_shared_region_ex(region("new"), 2 * SIZE, MAPPER_REPLACE, 0600));
    armed = 1;
    refused[0] = calls + 1;
}

/* The name is another's by the time that the memory is refused. */
static void others_are_left_alone(void) {
    while_reserving = replace_meanwhile;
    armed = 1;
    expect_null(create(), FIRST);
    armed = 0;
    t_mapping *found = mapped(attach_shared_region(region("new"), 0));
    check(found->size == 2 * SIZE, "%zu bytes", found->size);
    expect_ok(unmap(found));
    expect_ok(unmap(others));
    check(mapped_bytes == 0, "%zu bytes are left", mapped_bytes);
}

static const struct test_case cases[] = {
    {"any call refused: all or nothing", refuse_in_turn},
    {"any call interrupted: nothing of it is seen", interrupt_in_turn},
    {"any call refused while a region is waited for", refuse_while_waiting},
    {"signals wait while memory is reserved", signals_wait},
    {"who fails leaves alone what has replaced it", others_are_left_alone},
};

MAIN_OF_MAPPER_CASES(cases)
