/*
 * SCRIBBLE, PERTURB and CHECK_EACH switched while the process runs: possible where it was started with a mode, and
 * refused with EPERM elsewhere; and however often they change, blocks that were filled under another setting are not
 * taken for written ones.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "threads/random.h"

#include <pthread.h>
#include <stdbool.h>

static const char *const names[] = {"SCRIBBLE", "PERTURB", "CHECK_EACH"};

static void refused(void) {
    char value[20];
    for (size_t i = 0; i < COUNT(names); i++) {
        errno = 0;
        check(cadastre_option_set(names[i], "1") == -1 && errno == EPERM, "%s is set, errno %d", names[i], errno);
        check(cadastre_option_get(names[i], value, sizeof value) == 0 && strcmp(value, "0") == 0, "%s", names[i]);
    }
}

static void set(const char *name, const char *value) {
    check(cadastre_option_set(name, value) == 0, "%s=%s: errno %d", name, value, errno);
}

static int byte_of_new(void) {
    unsigned char *block = opaque(malloc(5000));
    int byte = block[0] == block[4999] && block[0] == block[2000] ? block[0] : -1;
    free(block);
    return byte;
}

static void takes_effect(void) {
    set("SCRIBBLE", "1");
    check(byte_of_new() == 0xaa, "not scribbled");
    set("SCRIBBLE", "0");
    set("PERTURB", "0x10");
    check(byte_of_new() == 0xef, "not perturbed");
    set("PERTURB", "0");
    unsigned char *block = opaque(malloc(10));
    unsigned char before = block[10];
    block[10]++;
    free(opaque(malloc(1)));
    expect_no_more();
    set("CHECK_EACH", "1");
    void *other = malloc(1);
    expect("cadastre_check(0x@): written past the end of the block: byte 10 is 0x@, block of 10 bytes, *");
    expect_who("taken", this_thread(), NULL);
    for (int i = 0; i < 10; i++) /* and not again */
        free(opaque(malloc(1)));
    expect_no_more();
    set("CHECK_EACH", "0");
    check(cadastre_check() == 1, "a fault that was told is none any more");
    block[10] = before;
    errors_skip();
    free(other);
    free(block);
    expect_no_more();
}

/* One that is written while scribble is on is found, however it was before. */
static void still_finds(void) {
    set("SCRIBBLE", "0");
    void *neighbour = opaque(malloc(42));
    free(opaque(malloc(42)));
    set("SCRIBBLE", "1");
    unsigned char *block = opaque(malloc(42));
    free(block);
    block[7] = 1;
    for (int i = 0; i < 5000 && !error_line(); i++)
        opaque(malloc(42));
    expect("malloc(0x@): written after it was freed: byte 7 is 0x1, block of 42 bytes, arena #");
    errors_skip();
    free(neighbour);
}

enum { SLOTS = 1000, THREADS = 16 };

static atomic_bool stopping;

static void *churns(void *argument) {
    struct {
        unsigned char *block;
        size_t size;
    } mine[SLOTS / THREADS] = {{NULL, 0}};
    struct rng rng = rng_stream(5, (uint64_t)(uintptr_t)argument);
    for (size_t step = 0; !stopping; step++) {
        size_t i = rng_between(&rng, 0, COUNT(mine) - 1);
        size_t most = (size_t)64 << (step / 500 % 10);
        mine[i].size = rng_between(&rng, 1, most);
        mine[i].block = step % 3 ? realloc(mine[i].block, mine[i].size) : (free(mine[i].block), malloc(mine[i].size));
        memset(opaque(mine[i].block), (int)step, mine[i].size);
        if (step % 500 == 499)
            for (size_t j = 0; j < COUNT(mine); j++) {
                free(mine[j].block);
                mine[j].block = NULL;
            }
    }
    for (size_t j = 0; j < COUNT(mine); j++)
        free(mine[j].block);
    return NULL;
}

static void to_and_fro(void) {
    static const char *const perturbs[] = {"0", "1", "255"};
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        check(pthread_create(&threads[i], NULL, churns, (void *)i) == 0, "no thread");
    for (size_t i = 0; i < 400; i++) {
        set("SCRIBBLE", i % 2 ? "1" : "0");
        set("PERTURB", perturbs[i % 3]);
        set("CHECK_EACH", i % 10 ? "0" : "300");
        usleep(5000);
    }
    stopping = true;
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check(cadastre_check() == 0, "the heap is not whole");
}

/* The same with one thread, so that what it finds can be found again: memory that serves small blocks, then large ones
 * with scribble off, then small ones. */
static void small_after_large(void) {
    static unsigned char *blocks[4000];
    for (size_t round = 0; round < 10; round++) {
        size_t small = 16 << round % 3;
        set("SCRIBBLE", "1");
        for (size_t i = 0; i < COUNT(blocks); i++)
            blocks[i] = malloc(small);
        for (size_t i = 0; i < COUNT(blocks); i++)
            free(blocks[i]);
        set("SCRIBBLE", "0");
        for (size_t i = 0; i < COUNT(blocks); i++) {
            blocks[i] = malloc(800);
            memset(opaque(blocks[i]), (int)round, 800);
        }
        for (size_t i = 0; i < COUNT(blocks); i++)
            free(blocks[i]);
    }
}

static const struct debug_case cases[] = {
    {{"refused", refused}, {NULL}, .errors = ""},
    {{"refused, LEAKS alone", refused}, {"CADASTRE_LEAKS=1"}, .errors = "cadastre: leaks: 0 bytes in 0 blocks\n"},
    {{"takes effect", takes_effect}, {"CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"still finds", still_finds}, {"CADASTRE_SCRIBBLE=1"}, .errors = NULL},
    {{"still finds, from canaries", still_finds}, {"CADASTRE_CANARIES=1"}, .errors = NULL},
    {{"small after large", small_after_large}, {"CADASTRE_SCRIBBLE=1"}, .errors = ""},
    {{"small after large, in quarantine", small_after_large},
     {"CADASTRE_SCRIBBLE=1", "CADASTRE_QUARANTINE=100K"},
     .errors = ""},
    {{"to and fro", to_and_fro}, {"CADASTRE_SCRIBBLE=1"}, .errors = ""},
    {{"to and fro, all modes", to_and_fro}, {ALL_MODES}, .errors = ""},
};

MAIN_OF_DEBUG_CASES(cases)
