/*
 * Uses every name that the library exports, and much of what in a C library allocates, frees, forks and starts
 * threads. Linked statically by static.t: then each of these names must come from the library, once. Prints "fine".
 */
#include "cadastre.h"

#include <errno.h>
#include <locale.h>
#include <malloc.h>
#include <pthread.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
extern void *__libc_memalign(size_t, size_t);
extern void *__libc_valloc(size_t);
extern void *__libc_pvalloc(size_t);
extern int __posix_memalign(void **, size_t, size_t);

static int wrong;

#define expect(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);                                            \
            wrong = 1;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* Ours: its capacity is known to the library. */
static void expect_ours(void *block, size_t size) {
    expect(block && cadastre_malloc_usable_size(block) >= size);
    if (block)
        memset(block, 1, size);
    free(block);
}

static void *on_a_thread(void *argument) {
    free(argument);
    return strdup("from a thread");
}

static int compare(const void *left, const void *right) {
    return strcmp(left, right);
}

static void names_of_the_family(void) {
    void *block = NULL;
    expect_ours(malloc(10), 10);
    expect_ours(calloc(3, 10), 30);
    expect_ours(realloc(malloc(5), 100000), 100000);
    expect_ours(reallocarray(NULL, 7, 7), 49);
    expect_ours(memalign(64, 10), 10);
    expect_ours(aligned_alloc(64, 10), 10);
    expect(posix_memalign(&block, 64, 10) == 0);
    expect_ours(block, 10);
    expect_ours(valloc(10), 10);
    expect_ours(pvalloc(10), 4096);
    expect(malloc_usable_size(NULL) == 0);
    free_sized(malloc(10), 10);
    free_aligned_sized(aligned_alloc(64, 10), 64, 10);
    expect_ours(cadastre_malloc(10), 10);
    expect_ours(cadastre_calloc(3, 10), 30);
    expect_ours(cadastre_realloc(NULL, 10), 10);
    expect_ours(cadastre_reallocarray(NULL, 3, 10), 30);
    expect_ours(cadastre_memalign(64, 10), 10);
    expect_ours(cadastre_aligned_alloc(64, 10), 10);
    expect(cadastre_posix_memalign(&block, 64, 10) == 0);
    cadastre_free(block);
    expect_ours(cadastre_valloc(10), 10);
    expect_ours(cadastre_pvalloc(10), 10);
    cadastre_free_sized(malloc(10), 10);
    cadastre_free_aligned_sized(aligned_alloc(64, 10), 64, 10);
    expect_ours(__libc_malloc(10), 10);
    expect_ours(__libc_calloc(3, 10), 30);
    expect_ours(__libc_realloc(NULL, 10), 10);
    expect_ours(__libc_memalign(64, 10), 10);
    expect_ours(__libc_valloc(10), 10);
    expect_ours(__libc_pvalloc(10), 10);
    expect(__posix_memalign(&block, 64, 10) == 0);
    __libc_free(block);
}

static void names_of_glibc(void) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    (void)mallinfo();
    (void)mallinfo2();
    malloc_trim(0);
    malloc_stats();
    malloc_info(0, stream);
    fclose(stream);
    free(text);
}

static void the_rest_of_the_library(void) {
    char words[3][8] = {"c", "a", "b"};
    regex_t pattern;
    qsort(words, 3, sizeof *words, compare);
    expect(words[0][0] == 'a');
    setlocale(LC_ALL, "");
    expect(regcomp(&pattern, "^(a|b)+c$", REG_EXTENDED) == 0);
    expect(regexec(&pattern, "ababc", 0, NULL, 0) == 0);
    regfree(&pattern);
    expect(setenv("CADASTRE_TEST_VARIABLE", "x", 1) == 0 && unsetenv("CADASTRE_TEST_VARIABLE") == 0);
    expect_ours(realpath("/", NULL), 2);

    pthread_t thread;
    void *result = NULL;
    expect(pthread_create(&thread, NULL, on_a_thread, malloc(100)) == 0);
    pthread_join(thread, &result);
    expect_ours(result, 14);

    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        free(malloc(100));
        _exit(malloc(100000) ? 0 : 1);
    }
    int status = -1;
    expect(waitpid(child, &status, 0) == child && status == 0);
    expect(system("exit 7") >> 8 == 7);
}

int main(void) {
    names_of_the_family();
    names_of_glibc();
    the_rest_of_the_library();
    show_alloc_mem();
    puts(wrong ? "wrong" : "fine");
    return wrong;
}
