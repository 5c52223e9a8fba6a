/*
 * Kernels that are not as most are: one that counts every mapped byte and gives no more than it has (strict
 * overcommit), of which the library learns only by being refused; one whose madvise says that it has purged, and has
 * not (as some emulators); and one that has no mapping left to split another with.
 */
#include "arenas.h"
#include "cadastre.h"
#include "config.h"
#include "faults/kernel.h"
#include "misuse/child.h"
#include "process.h"
#include "threads/random.h"

#include <pthread.h>

#define MOST (40 * MIB)

static struct link {
    struct link *next;
    size_t size;
} * chain;

/* All that there is in blocks of one size; the bytes had. */
static size_t take_all(size_t size) {
    size_t bytes = 0;
    for (struct link *link; (link = cadastre_malloc(size)) != NULL; bytes += size) {
        *link = (struct link){chain, size};
        chain = link;
        check(bytes < MOST, "more than %zu bytes", MOST);
    }
    check(errno == ENOMEM, "errno %d at the end of memory", errno);
    return bytes;
}

static void give_all(void) {
    while (chain != NULL) {
        struct link *next = chain->next;
        cadastre_free(chain);
        chain = next;
    }
}

static void is_sound(void) {
    struct cadastre_stats stats;
    check(cadastre_check() == 0, "the heap contradicts itself");
    process_drain();
    arenas_purge_all();
    check(cadastre_stats(&stats, sizeof stats) == 0 && stats.live_blocks == 0 && stats.mapped.other == 0,
          "%zu blocks are live, and nothing is known of %zu bytes", (size_t)stats.live_blocks,
          (size_t)stats.mapped.other);
    check(atomic_load(&kernel_mapped) == stats.mapped.total, "%zu bytes are mapped, and %zu known",
          atomic_load(&kernel_mapped), (size_t)stats.mapped.total);
}

/* ------------------------------------------------------------------------------------------------ overcommit */
static void every_size_gets_half(void) {
    static const size_t sizes[] = {64, 1000, 5000, 40000, 100000, MIB};
    atomic_store(&kernel_most, MOST);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            size_t bytes = take_all(sizes[i]);
            diag("%zu MiB to be had: %zu KiB in blocks of %zu bytes", MOST / MIB, bytes / KIB, sizes[i]);
            check(bytes >= MOST / 2, "no more than %zu bytes", bytes);
            give_all();
        }
    }
    is_sound();
}

static void *allocate(void *argument) {
    static const size_t sizes[] = {64, 1000, 5000, 40000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        unsigned char *block = cadastre_calloc(1, sizes[i]);
        check(block != NULL, "no %zu bytes for a thread, though another has freed enough", sizes[i]);
        for (size_t at = 0; at < sizes[i]; at++)
            check(block[at] == 0, "calloc gave a byte that is not 0");
        cadastre_free(block);
    }
    return argument;
}

/* Arenas that have nothing, and can get nothing, are served by those that have. */
static void threads_share_what_is_freed(void) {
    static const size_t sizes[] = {64, 1000, 5000, 40000};
    pthread_t threads[8];
    atomic_store(&kernel_most, MOST);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        atomic_store(&kernel_most, (i + 1) * MOST / COUNT(sizes));
        take_all(sizes[i]);
    }
    for (struct link **at = &chain; *at != NULL && (*at)->next != NULL;) { /* every other one */
        struct link *freed = *at;
        *at = freed->next;
        at = &(*at)->next;
        memset(freed, 0xff, freed->size);
        cadastre_free(freed);
    }
    for (size_t i = 0; i < COUNT(threads); i++)
        check(pthread_create(&threads[i], NULL, allocate, NULL) == 0, "no thread");
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    give_all();
    is_sound();
}

/* ----------------------------------------------------------------------------------------------- deafness */
static void zeros_all_the_same(void) {
    static const size_t sizes[] = {100, 800, 9000, 60000, 100000, 5 * MIB};
    static unsigned char *blocks[32 * MIB / 800];
    struct cadastre_stats stats;
    atomic_store(&kernel_is_deaf, true);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            size_t count = min_size(COUNT(blocks), 32 * MIB / sizes[i]);
            for (size_t k = 0; k < count; k++) {
                blocks[k] = cadastre_calloc(1, sizes[i]);
                check(blocks[k] != NULL, "no memory");
                for (size_t at = 0; at < sizes[i]; at += at < 256 ? 1 : 128)
                    check(blocks[k][at] == 0, "calloc(1, %zu) gave a byte that is not 0", sizes[i]);
                memset(blocks[k], 0xff, sizes[i]);
            }
            for (size_t k = 0; k < count; k++)
                cadastre_free(blocks[k]);
        }
    }
    check(cadastre_stats(&stats, sizeof stats) == 0 && stats.purged == 0, "%zu bytes are said to be purged",
          (size_t)stats.purged);
    is_sound();
}

/* ----------------------------------------------------------------------------------------------- stubbornness */

/* What cannot be unmapped is put to use again, but for the guards that were around it. */
static void guards_that_stay(void) {
    static char *blocks[17000]; /* more than have guards, so that the last are taken from what there is */
    char *first = cadastre_malloc(MIB);
    kernel_refuse(KERNEL_MUNMAP, 1, SIZE_MAX);
    cadastre_free(first);
    kernel_give_again();
    for (size_t i = 0; i < COUNT(blocks); i++) {
        blocks[i] = cadastre_malloc(SMALL_MAX + 1);
        check(blocks[i] != NULL, "no memory");
        blocks[i][0] = blocks[i][SMALL_MAX] = 1;
    }
    for (size_t i = 0; i < COUNT(blocks); i++)
        cadastre_free(blocks[i]);
    check(cadastre_check() == 0, "the heap contradicts itself");
}

static const struct set_case cases[] = {
    {{"40 MiB to be had: blocks of every size get half of it, again and again", every_size_gets_half}, NULL, NULL},
    {{"40 MiB to be had: threads get what others have freed", threads_share_what_is_freed}, NULL, NULL},
    {{"madvise does nothing: calloc gives zeros all the same", zeros_all_the_same}, NULL, NULL},
    {{"a guarded block cannot be unmapped: its place is used again, not its guards", guards_that_stay},
     NULL,
     "CADASTRE_GUARD=edges"},
};

MAIN_OF_SET_CASES(cases)
