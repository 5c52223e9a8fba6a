/* Opens a library as PHP opens its extensions, and exchanges blocks with it. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND) : NULL;
    void *(*exchange)(void *) = library ? (void *(*)(void *))dlsym(library, "exchange") : NULL;
    if (!exchange) {
        puts(dlerror());
        return 1;
    }
    for (size_t i = 0; i < 1000; i++)
        free(exchange(malloc(i * 100)));
    puts("fine");
    return 0;
}
