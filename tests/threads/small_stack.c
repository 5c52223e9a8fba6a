/*
 * On the smallest stack that a thread can have, every path works: first use, refills, LARGE, reports with the line of
 * /proc/self/maps, and the walk of show_alloc_mem. An overflow would hit the stack's guard page.
 */
#include "cadastre.h"
#include "misuse/child.h"

#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>

static char static_bytes[64];

static void use_everything(void) {
    static void *blocks[4000];
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = malloc(i % 200 == 0 ? 100000 + i : i);
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = realloc(blocks[i], i % 100 == 0 ? 70000 : i / 2 + 1);
    free(opaque((char *)blocks[10] + 1));
    free(opaque(static_bytes));
    free(opaque((char *)blocks[100] + 4096));
    show_alloc_mem();
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = aligned_alloc(64, 5000);
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
    free(opaque(blocks[20]));
}

static void *on_a_small_stack(void *argument) {
    use_everything();
    return argument;
}

static void smallest_stack(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    long least = sysconf(_SC_THREAD_STACK_MIN);
    int out = dup(STDOUT_FILENO), nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO); /* show_alloc_mem's output is not looked at here */
    pthread_attr_init(&attributes);
    check(pthread_attr_setstacksize(&attributes, (size_t)(least > 16384 ? least : 16384)) == 0, "stack size");
    check(pthread_create(&thread, &attributes, on_a_small_stack, NULL) == 0, "no thread");
    pthread_join(thread, NULL);
    dup2(out, STDOUT_FILENO);
    for (int i = 0; i < 4; i++)
        expect_report("free(0x@): *");
    expect_silence();
}

static const struct test_case cases[] = {
    {"a stack of PTHREAD_STACK_MIN bytes is enough for every path", smallest_stack}};

MAIN_OF_CASES(cases)
