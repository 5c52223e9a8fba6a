/*
 * What show_alloc_mem_ex prints, caught in a memory file, and small questions about it. Allocates nothing from the heap
 * that it looks at.
 */
#ifndef REGISTER_SHOWN_H
#define REGISTER_SHOWN_H

#include "cadastre.h"
#include "misuse/child.h"

static char shown[8 << 20];

/* The request with its descriptor replaced; its output is in `shown`. */
__attribute__((unused)) static void show(struct cadastre_show what) {
    int file = memfd_create("shown", MFD_CLOEXEC);
    check(file >= 0, "no memory file");
    what.size = sizeof what;
    what.fd = file;
    check(show_alloc_mem_ex(&what) == 0, "show_alloc_mem_ex: %s", strerror(errno));
    size_t length = 0;
    ssize_t n;
    while ((n = pread(file, shown + length, sizeof shown - 1 - length, (off_t)length)) > 0)
        length += (size_t)n;
    shown[length] = '\0';
    check(length < sizeof shown - 1, "more output than this test holds");
    close(file);
}

/* The line that starts with `start`, or NULL. */
__attribute__((unused)) static const char *line_of(const char *start) {
    const char *line = shown;
    while (line && strncmp(line, start, strlen(start)) != 0) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return line;
}

__attribute__((unused)) static const char *line_of_block(const void *block, size_t size) {
    char start[80];
    snprintf(start, sizeof start, "0x%lX - 0x%lX : %zu bytes\n", (unsigned long)block, (unsigned long)block + size,
             size);
    return line_of(start);
}

__attribute__((unused)) static size_t lines_with(const char *text) {
    size_t count = 0;
    for (const char *at = shown; (at = strstr(at, text)); at += strlen(text))
        count++;
    return count;
}

#endif
