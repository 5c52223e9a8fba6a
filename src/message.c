#include "message.h"
#include "syscall.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REPORTS_ALL   32
#define REPORTS_EVERY 1000
#define LINE_MAX_     512
#define MORE_BUFFER   1024
#define KEPT_FD_MIN   200
#define NUMBER_MAX    20  /* 2^64 has so many decimal digits */
#define PATH_PIECE    512 /* more than NAME_MAX and a number */

static _Atomic size_t reports;       /* misuse reports so far */
static _Atomic bool abort_on_misuse; /* set at boot or by an option */
static _Atomic uint64_t unread;      /* a bit for each descriptor, by its number, that nobody read for a second */

static bool is_unread(int fd) {
    return load_relaxed(&unread) >> (unsigned)fd % 64 & 1;
}

static void note_unread(int fd, bool is) {
    if (UNLIKELY(is_unread(fd) != is))
        atomic_fetch_xor_explicit(&unread, UINT64_C(1) << (unsigned)fd % 64, memory_order_relaxed);
}

/* For a descriptor that does not block: false when nobody reads for a second, and at once when it was so before. */
static bool wait_writable(int fd) {
    struct pollfd poll = {.fd = fd, .events = POLLOUT};
    struct timespec second = {.tv_sec = !is_unread(fd)};
    bool writable = syscall6(SYS_ppoll, (long)&poll, 1, (long)&second, 0, 0, 0) > 0;
    note_unread(fd, !writable);
    return writable;
}

/* The kernel's result for the whole: 0, or that of the write that failed. */
static long write_all(int fd, const char *bytes, size_t count) {
    while (count > 0) {
        long n = syscall3(SYS_write, fd, (long)bytes, (long)count);
        if (n == -EINTR || (n == -EAGAIN && wait_writable(fd)))
            continue;
        if (n < 0)
            return n;
        note_unread(fd, false);
        bytes += n;
        count -= (size_t)n;
    }
    return 0;
}

/* SIGPIPE is the program's, and a line of ours no reason to die of it: it is held back meanwhile, and if the write has
 * raised it, taken out of what is pending. */
bool message_write(int fd, const char *bytes, size_t count) {
    const uint64_t sigpipe = UINT64_C(1) << (SIGPIPE - 1);
    const struct timespec now = {0};
    uint64_t blocked;
    uint64_t pending = 0;
    syscall4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&sigpipe, (long)&blocked, sizeof sigpipe);
    syscall3(SYS_rt_sigpending, (long)&pending, sizeof pending, 0);
    long result = write_all(fd, bytes, count);
    if (result == -EPIPE && (pending & sigpipe) == 0)
        syscall4(SYS_rt_sigtimedwait, (long)&sigpipe, 0, (long)&now, sizeof sigpipe);
    syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&blocked, 0, sizeof blocked);
    return result == 0;
}

/* ------------------------------------------------------------------------------------- standard error at exit */
static struct {
    int fd;   /* a duplicate, if `file` is still what is open there */
    bool any; /* this and the next constant once kept */
    struct stat file;
} kept;

static bool look_up(int fd, struct stat *file) {
    return syscall3(SYS_fstat, fd, (long)file, 0) == 0;
}

/* Above the numbers that programs expect to be given. */
void message_keep_stderr(void) {
    long fd = syscall3(SYS_fcntl, STDERR_FILENO, F_DUPFD_CLOEXEC, KEPT_FD_MIN);
    kept.fd = (int)fd;
    kept.any = fd >= 0 && look_up(kept.fd, &kept.file);
}

/* A program may close all that it finds open, and have a file of its own there since. */
static int find_stderr(void) {
    struct stat file;
    bool is_kept = kept.any && !look_up(STDERR_FILENO, &file) && look_up(kept.fd, &file) &&
                   file.st_dev == kept.file.st_dev && file.st_ino == kept.file.st_ino;
    return is_kept ? kept.fd : STDERR_FILENO;
}

void text_flush(struct text *text) {
    if (text->fd >= 0 && !message_write(text->fd, text->buffer, text->length))
        text->fd = -1;
    text->length = 0;
}

void text_add_bytes(struct text *text, const char *bytes, size_t count) {
    while (count > 0) {
        size_t room = text->capacity - text->length;
        size_t n = min_size(count, room);
        memcpy(text->buffer + text->length, bytes, n);
        text->length += n;
        bytes += n;
        count -= n;
        if (count == 0 || text->fd < 0)
            return;
        text_flush(text);
        if (text->fd < 0) /* the rest is lost as well */
            text->length = text->capacity;
    }
}

void text_add(struct text *text, const char *string) {
    text_add_bytes(text, string, strlen(string));
}

static void text_add_number(struct text *text, uint64_t value, unsigned base, const char *digits) {
    char reversed[NUMBER_MAX];
    size_t at = sizeof reversed;
    do {
        reversed[--at] = digits[value % base];
        value /= base;
    } while (value != 0);
    text_add_bytes(text, reversed + at, sizeof reversed - at);
}

void text_add_decimal(struct text *text, uint64_t value) {
    text_add_number(text, value, 10, "0123456789");
}

void text_add_hex(struct text *text, uint64_t value) {
    text_add(text, "0x");
    text_add_number(text, value, 16, "0123456789abcdef");
}

void text_add_HEX(struct text *text, uint64_t value) {
    text_add(text, "0x");
    text_add_number(text, value, 16, "0123456789ABCDEF");
}

/* ------------------------------------------------------------------------------------------------- the log */
static const char *_Atomic log_path; /* NULL: standard error */

void message_log_to(const char *path) {
    store_relaxed(&log_path, path == NULL || *path == '\0' ? NULL : path);
}

static long open_file(long directory, const char *path, long flags) {
    return syscall4(SYS_openat, directory, (long)path, flags | O_CLOEXEC, 0644);
}

/* Adds of the path what there is room for, and gives how far that is. *end, *rest: behind the last directory in it. */
static const char *add_piece(struct text *text, const char *path, size_t *end, const char **rest) {
    for (; *path != '\0' && text->length + NUMBER_MAX <= text->capacity; path++) {
        if (path[0] == '%' && path[1] == 'p') {
            text_add_decimal(text, (uint64_t)syscall3(SYS_getpid, 0, 0, 0));
            path++;
            continue;
        }
        text_add_bytes(text, path, 1);
        if (*path == '/') {
            *end = text->length;
            *rest = path + 1;
        }
    }
    return path;
}

/* A path may be longer than what a small stack has room for. What does not fit into one piece is opened directory by
 * directory; a name, which is shorter than a piece, always does. */
static NOINLINE long open_log_file(const char *path) {
    const long flags = O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY;
    char piece[PATH_PIECE];
    long directory = AT_FDCWD;
    for (;;) {
        struct text text = {piece, 0, sizeof piece - 1, -1};
        const char *rest = path;
        size_t end = 0;
        bool is_last = *add_piece(&text, path, &end, &rest) == '\0';
        piece[is_last ? text.length : end] = '\0';
        long fd = open_file(directory, piece, is_last ? flags : O_PATH | O_DIRECTORY);
        if (directory != AT_FDCWD)
            syscall3(SYS_close, directory, 0, 0);
        if (fd < 0 || is_last)
            return fd;
        directory = fd;
        for (path = rest; *path == '/'; path++) /* or the next piece would be a path from the root */
            ;
    }
}

/* Opened for each report, since a program may close what it does not know. */
int message_open_log(void) {
    const char *path = load_relaxed(&log_path);
    long fd = path == NULL ? -1 : open_log_file(path);
    return fd < 0 ? find_stderr() : (int)fd;
}

void message_close_log(int fd) {
    if (fd != STDERR_FILENO && fd != kept.fd)
        syscall3(SYS_close, fd, 0, 0);
}

static NOINLINE void print_line(int log, const char *line, size_t count) {
    char buffer[LINE_MAX_];
    struct text text = {buffer, 0, sizeof buffer - 1, -1};
    text_add(&text, "cadastre: ");
    text_add(&text, line);
    if (count > 0) {
        text_add(&text, " (");
        text_add_decimal(&text, count);
        text_add(&text, " reports so far)");
    }
    buffer[text.length++] = '\n';
    message_write(log, buffer, text.length);
}

void message_print(const char *line) {
    int log = message_open_log();
    print_line(log, line, 0);
    message_close_log(log);
}

void message_die(const char *line) {
    message_print(line);
    abort();
}

void message_abort_on_misuse(bool yes) {
    store_relaxed(&abort_on_misuse, yes);
}

bool message_begin_misuse(size_t *count) {
    *count = add_relaxed(&reports, 1) + 1;
    return load_relaxed(&abort_on_misuse) || *count <= REPORTS_ALL || *count % REPORTS_EVERY == 0;
}

static NOINLINE void print_more(int log, const struct message_more *more) {
    char buffer[MORE_BUFFER];
    struct text text = {buffer, 0, sizeof buffer, log};
    more->add(&text, more->argument);
    text_flush(&text);
}

void message_end_misuse(const char *line, size_t count, const struct message_more *more) {
    int log = message_open_log();
    print_line(log, line, count <= REPORTS_ALL ? 0 : count);
    if (more != NULL)
        print_more(log, more);
    message_close_log(log);
    if (load_relaxed(&abort_on_misuse))
        abort();
}
