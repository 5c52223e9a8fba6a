/*
 * Programs that take malloc_usable_size for the size they asked for, as systemd's growing arrays do: they write to the
 * last usable byte, grow when that is full, and expect realloc to keep all of it; of many arrays at once, on threads,
 * and in the debugging modes, which know the requested size and may check or fill what is beyond.
 */
#include "cadastre.h"
#include "debug/cases.h"
#include "limits/memory.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>

enum { THREADS = 4, ARRAYS = 100 };

struct array {
    unsigned char *bytes;
    size_t used;
};

/* Room for `count` more: doubled, by what the allocator says of the array. */
static void reserve(struct array *array, size_t count) {
    size_t usable = malloc_usable_size(array->bytes), wanted = array->used + count;
    if (usable >= wanted)
        return;
    array->bytes = realloc(array->bytes, wanted * 2 > 64 ? wanted * 2 : 64);
    check(array->bytes && malloc_usable_size(array->bytes) >= wanted, "no room for %zu bytes", wanted);
}

static void *grow_arrays(void *number) {
    struct array arrays[ARRAYS] = {{NULL}};
    struct rng rng = rng_stream(1, (uintptr_t)number);
    size_t most = mem_bound(16 * MIB) / ARRAYS / THREADS;
    for (size_t step = 0; step < 15 * ARRAYS; step++) {
        struct array *array = &arrays[rng_between(&rng, 0, ARRAYS - 1)];
        size_t tag = (size_t)(array - arrays);
        reserve(array, rng_between(&rng, 1, 500));
        while (array->used < malloc_usable_size(array->bytes)) {
            array->bytes[array->used] = pattern_at(tag, array->used);
            array->used++;
        }
        if (array->used > most || step % 50 == 49) {
            for (size_t i = 0; i < array->used; i++)
                check(array->bytes[i] == pattern_at(tag, i), "byte %zu of %zu was not kept", i, array->used);
            free(array->bytes);
            *array = (struct array){NULL, 0};
        }
    }
    for (size_t i = 0; i < ARRAYS; i++)
        free(arrays[i].bytes);
    return NULL;
}

static void systemds_arrays(void) {
    pthread_t threads[THREADS];
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, grow_arrays, (void *)t) == 0, "no thread");
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    expect_silence();
}

static const struct test_case cases[] = {{"arrays that fill what is usable", systemds_arrays}};

int main(int argc, char **argv) {
    static const char *const modes[][8] = {{NULL},
                                           {"CADASTRE_SCRIBBLE=1"},
                                           {"CADASTRE_PERTURB=165"},
                                           {"CADASTRE_CANARIES=1"},
                                           {"CADASTRE_QUARANTINE=1M"},
                                           {ALL_MODES}};
    if (argc > 1)
        return run_named(cases, COUNT(cases), argv[1]);
    for (size_t i = 0; i < COUNT(modes); i++) {
        diag("%s", modes[i][0] ? modes[i][0] : "no option");
        ok_case(cases[0].name, modes[i], NULL);
    }
    return tap_done();
}
