/*
 * A program in C that opens the C++ plugin named by its argument, and asks it for what cannot be given: too much, and
 * anything at all when memory is out. Prints "fine".
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROOM = 32 << 20, PIECE = 64 << 10 };

/* Leaves no piece of any size. What is taken stays so until the end. */
static int take_all(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu", &pages) != 1)
        return 0;
    fclose(file);
    rlim_t limit = pages * (rlim_t)sysconf(_SC_PAGESIZE) + ROOM;
    if (setrlimit(RLIMIT_AS, &(struct rlimit){limit, limit}) != 0)
        return 0;
    for (size_t size = 4 << 20; size >= 16; size /= 4)
        while (malloc(size))
            continue;
    return 1;
}

int main(int argc, char **argv) {
    static char output[256];
    setvbuf(stdout, output, _IOLBF, sizeof output);
    if (argc != 2)
        return 2;
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    if (dlsym(RTLD_DEFAULT, "_ZSt17__throw_bad_allocv")) {
        fprintf(stderr, "the C++ library is in sight of all: this shows nothing\n");
        return 1;
    }
    int (*fails_well)(size_t) = (int (*)(size_t))dlsym(plugin, "plugin_fails_well");
    int fault = fails_well(SIZE_MAX / 2 + 1);
    if (!fault && !take_all())
        fault = 100;
    if (!fault && (fault = fails_well(1 << 20)))
        fault += 10;
    if (!fault && (fault = fails_well(16)))
        fault += 20;
    if (fault) {
        fprintf(stderr, "fault %d\n", fault);
        return 1;
    }
    puts("fine");
    return 0;
}
