/*
 * What the kernel says about this process and this machine, read from /proc without allocating.
 */
#ifndef LIMITS_MEMORY_H
#define LIMITS_MEMORY_H

#include "tap.h"

#include <fcntl.h>
#include <stdint.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* The number of bytes that the line `field` ("VmRSS:") of a /proc file states in kB; 0 if there is none. */
__attribute__((unused)) static size_t proc_bytes(const char *path, const char *field) {
    static _Thread_local char text[8192];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    if (length < 0)
        return 0;
    text[length] = '\0';
    const char *at = strstr(text, field);
    return at ? (size_t)strtoull(at + strlen(field), NULL, 10) * KIB : 0;
}

__attribute__((unused)) static size_t resident(void) {
    return proc_bytes("/proc/self/status", "VmRSS:");
}

/* No test holds more than a quarter of what the machine has left: min(bytes, MemAvailable / 4). */
__attribute__((unused)) static size_t mem_bound(size_t bytes) {
    size_t quarter = proc_bytes("/proc/meminfo", "MemAvailable:") / 4;
    return bytes < quarter ? bytes : quarter;
}

/* The number of mappings of this process, as vm.max_map_count counts them. */
__attribute__((unused)) static size_t mappings(void) {
    static char text[64 << 10];
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t lines = 0;
    ssize_t length;
    while ((length = read(file, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < length; i++)
            lines += text[i] == '\n';
    close(file);
    return lines;
}

#endif
