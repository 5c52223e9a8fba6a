/*
 * Opens a library as PHP opens its extensions, and exchanges blocks with it. With "dlmopen" by that function; with
 * "own" it says whether the library has a malloc of its own instead.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    int mode = RTLD_NOW | RTLD_DEEPBIND;
    const char *how = argc > 2 ? argv[2] : "";
    void *library = strcmp(how, "dlmopen") == 0 ? dlmopen(LM_ID_BASE, argv[1], mode) : dlopen(argv[1], mode);
    void *(*exchange)(void *) = library ? (void *(*)(void *))dlsym(library, "exchange") : NULL;
    if (!exchange) {
        puts(dlerror());
        return 1;
    }
    if (strcmp(how, "own") == 0) {
        void *(**taker)(size_t) = (void *(**)(size_t))dlsym(library, "taker");
        puts(*taker == malloc ? "the program's" : "fine");
        return 0;
    }
    for (size_t i = 0; i < 1000; i++)
        free(exchange(malloc(i * 100)));
    puts("fine");
    return 0;
}
