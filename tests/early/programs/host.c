/*
 * Opens and closes the plugin named by its argument many times; blocks cross between the two in both directions and
 * outlive the plugin, on this thread and on others. Prints "fine".
 */
#include "blocks.h"

#include <dlfcn.h>
#include <pthread.h>

enum { ROUNDS = 60 };

static const char *path;

static void *use_plugin(void *argument) {
    struct blocks theirs, mine;
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    void (*take)(struct blocks *) = (void (*)(struct blocks *))dlsym(plugin, "plugin_take");
    void (*give)(struct blocks *) = (void (*)(struct blocks *))dlsym(plugin, "plugin_give");
    take(&theirs);
    blocks_take(&mine);
    give(&mine);
    if (dlclose(plugin) != 0)
        exit(1);
    blocks_give(&theirs); /* its code is gone, its blocks are not */
    return argument;
}

int main(int argc, char **argv) {
    pthread_t threads[4];
    if (argc != 2)
        return 2;
    path = argv[1];
    for (int round = 0; round < ROUNDS; round++)
        use_plugin(NULL);
    for (int round = 0; round < ROUNDS / 4; round++) {
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, use_plugin, NULL);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
    }
    puts("fine");
    return 0;
}
