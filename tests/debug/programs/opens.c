/*
 * usage: opens local|global DIRECTORY COUNT [SIZE]
 * Opens COUNT libraries, 0.so and on, in one way or the other, closes every third and opens it again; two threads touch
 * their thread-local variables. Forgets four blocks of SIZE bytes, if that is given.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARIES_MAX 200

static void *libraries[LIBRARIES_MAX];
static int count;

static void *touch_all(void *unused) {
    for (int i = 0; i < count; i++) {
        char *(*touch)(size_t) = (char *(*)(size_t))dlsym(libraries[i], "touch");
        *touch(10) = 1;
    }
    return unused;
}

static void open_one(int i, const char *directory, int mode) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%d.so", directory, i);
    libraries[i] = dlopen(path, mode);
    if (libraries[i] == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
}

int main(int arguments, char **argument) {
    int mode = RTLD_NOW | (strcmp(argument[1], "global") == 0 ? RTLD_GLOBAL : RTLD_LOCAL);
    pthread_t thread;
    count = atoi(argument[3]);
    for (int i = 0; i < count; i++)
        open_one(i, argument[2], mode);
    for (int i = 0; i < count; i += 3) {
        dlclose(libraries[i]);
        open_one(i, argument[2], mode);
    }
    touch_all(NULL);
    if (pthread_create(&thread, NULL, touch_all, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 1;
    for (int i = 0; arguments > 4 && i < 4; i++) {
        char *volatile block = malloc((size_t)atoi(argument[4]));
        block[0] = 1;
    }
    return 0;
}
