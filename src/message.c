#include "message.h"
#include "syscall.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPORTS_ALL   32
#define REPORTS_EVERY 1000
#define LINE_MAX_     512

static _Atomic size_t reports;       /* misuse reports so far */
static _Atomic bool abort_on_misuse; /* set at boot or by an option */

/* For a descriptor that does not block: false when nobody reads for a second. */
static bool wait_writable(int fd) {
    struct pollfd poll = {.fd = fd, .events = POLLOUT};
    struct timespec second = {.tv_sec = 1};
    return syscall6(SYS_ppoll, (long)&poll, 1, (long)&second, 0, 0, 0) > 0;
}

void message_write(int fd, const char *bytes, size_t count) {
    while (count > 0) {
        long n = syscall3(SYS_write, fd, (long)bytes, (long)count);
        if (n == -EINTR || (n == -EAGAIN && wait_writable(fd)))
            continue;
        if (n <= 0)
            return;
        bytes += n;
        count -= (size_t)n;
    }
}

void text_flush(struct text *text) {
    message_write(text->fd, text->buffer, text->length);
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
    }
}

void text_add(struct text *text, const char *string) {
    text_add_bytes(text, string, strlen(string));
}

static void text_add_number(struct text *text, uint64_t value, unsigned base, const char *digits) {
    char reversed[20]; /* 2^64 has 20 decimal digits */
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

static void print_line(const char *line, size_t count) {
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
    message_write(2, buffer, text.length);
}

void message_print(const char *line) {
    print_line(line, 0);
}

void message_die(const char *line) {
    print_line(line, 0);
    abort();
}

void message_abort_on_misuse(bool yes) {
    store_relaxed(&abort_on_misuse, yes);
}

bool message_begin_misuse(size_t *count) {
    *count = add_relaxed(&reports, 1) + 1;
    return load_relaxed(&abort_on_misuse) || *count <= REPORTS_ALL || *count % REPORTS_EVERY == 0;
}

void message_end_misuse(const char *line, size_t count) {
    print_line(line, count <= REPORTS_ALL ? 0 : count);
    if (load_relaxed(&abort_on_misuse))
        abort();
}
