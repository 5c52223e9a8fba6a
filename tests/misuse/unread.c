/*
 * Reports and heap maps that nobody reads: into a pipe whose reader is gone, into one that is full and does not block,
 * and where there is no descriptor at all. The program neither ends nor waits long for each, and SIGPIPE stays its own.
 */
#include "cadastre.h"
#include "misuse/guard.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/socket.h>

/* ---------------------------------------------------------------------------------------------- the two outputs */
static int saved[STDERR_FILENO + 1];

/* Puts `fd` in place of standard output and standard error; -1: closes them. */
static void set_outputs(int fd) {
    for (int output = STDOUT_FILENO; output <= STDERR_FILENO; output++) {
        saved[output] = fcntl(output, F_DUPFD_CLOEXEC, 10);
        if (saved[output] < 0 || (fd < 0 ? close(output) : dup2(fd, output)) < 0)
            _exit(1);
    }
}

static void restore_outputs(void) {
    for (int output = STDOUT_FILENO; output <= STDERR_FILENO; output++) {
        if (dup2(saved[output], output) < 0)
            _exit(1);
        close(saved[output]);
    }
}

static void *misuse(void) {
    void *block = opaque(malloc(100));
    free(block);
    free(opaque(block));
    return block;
}

/* Everything that prints, and with show_alloc_mem many buffers of it. */
static void print_all(void) {
    misuse();
    show_alloc_mem();
    malloc_stats();
}

enum { MANY = 3000 };

static void *kept[MANY];

static void keep_many(void) {
    for (size_t i = 0; i < MANY; i++)
        kept[i] = malloc(i % 100);
}

static void free_many(void) {
    for (size_t i = 0; i < MANY; i++)
        free(kept[i]);
}

/* Prints where nothing can be written; the heap must not mind. Closes `fd`. */
static void print_into(int fd) {
    guard_set();
    keep_many();
    set_outputs(fd);
    print_all();
    restore_outputs();
    close(fd);
    free_many();
    guard_check();
}

/* ------------------------------------------------------------------------------------------ a reader that is gone */
static int broken_pipe(void) {
    int ends[2];
    check(pipe(ends) == 0, "no pipe");
    close(ends[0]);
    return ends[1];
}

static sigset_t sigpipe_only(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    return set;
}

static int is_pending(void) {
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, SIGPIPE);
}

static volatile sig_atomic_t signalled;

static void note(int signal) {
    (void)signal;
    signalled++;
}

/* Prints into a broken pipe with SIGPIPE in that state, which must be the same afterwards. */
static void with_sigpipe(void (*disposition)(int), int blocked, int pending) {
    sigset_t set = sigpipe_only(), mask;
    signal(SIGPIPE, disposition);
    sigprocmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    if (pending)
        raise(SIGPIPE);
    print_into(broken_pipe());
    sigprocmask(SIG_BLOCK, NULL, &mask);
    check(sigismember(&mask, SIGPIPE) == blocked, "SIGPIPE was %sblocked before", blocked ? "" : "not ");
    check(is_pending() == pending, "SIGPIPE was %spending before", pending ? "" : "not ");
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    check(signalled == pending, "%d signals were handled, not %d", (int)signalled, pending);
}

static void by_default(void) {
    with_sigpipe(SIG_DFL, 0, 0);
}

static void ignored(void) {
    with_sigpipe(SIG_IGN, 0, 0);
}

static void handled(void) {
    with_sigpipe(note, 0, 0);
}

static void blocked(void) {
    with_sigpipe(note, 1, 0);
}

static void pending(void) {
    with_sigpipe(note, 1, 1);
}

/* ---------------------------------------------------------------------------- a descriptor that does not block */
enum { REPORTS = 30, STATISTICS = 100, PATIENCE = 20 }; /* far less than a second for each */

static int reader, writer;

static void open_pipe(void) {
    int ends[2];
    check(pipe(ends) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 0, "no pipe of one page");
    reader = ends[0];
    writer = ends[1];
}

static void open_sockets(void) {
    int ends[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "no sockets");
    reader = ends[0];
    writer = ends[1];
}

static void fill(void) {
    check(fcntl(writer, F_SETFL, O_NONBLOCK) == 0, "cannot be made not to block");
    while (write(writer, "x", 1) == 1)
        continue;
}

static void drain(void) {
    char bytes[4096];
    check(fcntl(reader, F_SETFL, O_NONBLOCK) == 0, "cannot be made not to block");
    while (read(reader, bytes, sizeof bytes) > 0)
        continue;
    check(fcntl(reader, F_SETFL, 0) == 0, "cannot be made to block");
}

static void print_unread(void) {
    set_outputs(writer);
    alarm(PATIENCE);
    for (int i = 0; i < REPORTS; i++)
        misuse();
    for (int i = 0; i < STATISTICS; i++)
        malloc_stats();
    show_alloc_mem();
    alarm(60);
    restore_outputs();
}

/* In a process of its own: reads to the end. */
static void read_lines(void) {
    char bytes[1000];
    ssize_t length;
    size_t lines = 0;
    close(writer);
    while ((length = read(reader, bytes, sizeof bytes)) > 0)
        for (ssize_t i = 0; i < length; i++)
            lines += bytes[i] == '\n';
    check(lines > MANY, "only %zu lines of a heap map of %d blocks arrived", lines, MANY);
    _exit(0);
}

/* Nothing is lost when it is read in time, however often the writer must wait. Closes the writer. */
static void show_to_a_reader(void) {
    int status;
    pid_t child = fork();
    if (child == 0)
        read_lines();
    set_outputs(writer);
    show_alloc_mem();
    restore_outputs();
    close(writer);
    check(waitpid(child, &status, 0) == child && status == 0, "the reader ended with 0x%x", status);
}

static void full(void (*open)(void)) {
    char line[512];
    guard_set();
    keep_many();
    open();
    fill();
    print_unread();
    drain();
    set_outputs(writer);
    void *block = misuse();
    restore_outputs();
    ssize_t length = read(reader, line, sizeof line - 1);
    check(length > 0, "no report after the pipe was read");
    line[length] = '\0';
    char expected[128];
    snprintf(expected, sizeof expected, "cadastre: free(%p): double free: block of class # bytes, arena #\n", block);
    check(matches(line, expected), "after the pipe was read: %s", line);
    show_to_a_reader();
    free_many();
    guard_check();
}

static void full_pipe(void) {
    full(open_pipe);
}

static void full_socket(void) {
    full(open_sockets);
}

static void read_in_time(void) {
    guard_set();
    keep_many();
    open_pipe();
    fill();
    show_to_a_reader();
    free_many();
    guard_check();
}

/* -------------------------------------------------------------------------------------------- nowhere to write */
static void closed(void) {
    print_into(-1);
}

static void not_for_writing(void) {
    print_into(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

static void full_device(void) {
    print_into(open("/dev/full", O_WRONLY | O_CLOEXEC));
}

static const struct test_case cases[] = {
    {"a broken pipe, SIGPIPE's disposition the default", by_default},
    {"a broken pipe, SIGPIPE ignored", ignored},
    {"a broken pipe, SIGPIPE handled", handled},
    {"a broken pipe, SIGPIPE blocked", blocked},
    {"a broken pipe, SIGPIPE blocked and pending", pending},
    {"a full pipe that does not block", full_pipe},
    {"a full socket that does not block", full_socket},
    {"a full pipe that does not block, and is read", read_in_time},
    {"outputs that are closed", closed},
    {"outputs that are not open for writing", not_for_writing},
    {"outputs on a full device", full_device},
};

MAIN_OF_CASES(cases)
