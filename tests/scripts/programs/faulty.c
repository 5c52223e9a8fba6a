/*
 * A malloc with a fault, which scripts/evaluate must find: cadastre's, with a hand in between. FAULT in the
 * environment names it; without, there is none.
 */
#include "cadastre.h"
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern char **environ;

/* getenv is not there yet when the first block is asked for. */
static int has(const char *fault) {
    for (char **entry = environ; entry && *entry; entry++)
        if (strncmp(*entry, "FAULT=", 6) == 0)
            return strcmp(*entry + 6, fault) == 0;
    return 0;
}

static int is_inside(const void *block) {
    return (uintptr_t)block % 16 != 0;
}

void *malloc(size_t size) {
    if (size == 1024 && has("wasteful"))
        *(char *)mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
    return cadastre_malloc(size);
}

void free(void *block) {
    if (!block && has("null"))
        abort();
    if (is_inside(block) && has("believes"))
        block = (char *)block - 5;
    if (!has("keeps"))
        cadastre_free(block);
}

void *realloc(void *block, size_t size) {
    if (is_inside(block) && has("gives"))
        return cadastre_malloc(size);
    if (size > 1 << 20 && has("forgets"))
        return cadastre_malloc(size);
    if (size > 1 << 20 && has("stays"))
        return block;
    if (is_inside(block) && has("hangs"))
        for (;;)
            pause();
    return cadastre_realloc(block, size);
}

/* Copies the map, with what is wrong. */
static void copy(char *line, FILE *to) {
    size_t in_zone = 0;
    for (; *line; line += strcspn(line, "\n") + 1) {
        int length = (int)strcspn(line, "\n");
        uintptr_t start;
        size_t size;
        if (sscanf(line, "0x%lX - %*s : %zu", &start, &size) != 2) {
            fprintf(to, "%.*s\n", length, line);
            in_zone = 0;
        } else if (has("sizes")) {
            fprintf(to, "0x%lX - 0x%lX : %zu bytes\n", start, start + size + 1, size + 1);
        } else if (has("misses") && size == 128 << 20) {
            continue;
        } else if (has("zones") && ++in_zone > 50) {
            fprintf(to, "%s : 0x%lX\n%.*s\n", size > 1024 ? "SMALL" : "TINY", start, length, line);
            in_zone = 1;
        } else {
            fprintf(to, "%.*s\n", length, line);
        }
    }
}

void show_alloc_mem(void) {
    static char map[256 << 10];
    static char buffer[BUFSIZ];
    int file = memfd_create("map", 0);
    int saved = dup(STDOUT_FILENO);
    void (*show)(void) = (void (*)(void))dlsym(RTLD_NEXT, "show_alloc_mem");
    dup2(file, STDOUT_FILENO);
    show();
    dup2(saved, STDOUT_FILENO);
    close(saved);
    ssize_t length = pread(file, map, sizeof map - 1, 0);
    map[length < 0 ? 0 : length] = '\0';
    close(file);
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    copy(map, stdout);
    fflush(stdout);
}
