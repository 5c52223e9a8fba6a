/*
 * What the tests of statistics share: blocks of known sizes on many threads, and what /proc/self/smaps says. Stacks and
 * tables lie in a memory file, which has a name in smaps: what has none is the library's, and what else there was
 * before the test began.
 */
#ifndef STATS_HEAP_H
#define STATS_HEAP_H

#include "cadastre.h"
#include "limits/memory.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>

#define THREADS    16
#define STACK_SIZE (256 * KIB)

/* Zeroed memory that is not malloc's, and whose mapping has a name. */
__attribute__((unused)) static void *named_memory(size_t size) {
    int file = memfd_create("test", MFD_CLOEXEC);
    check(file >= 0 && ftruncate(file, (off_t)size) == 0, "no memory file");
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    check(memory != MAP_FAILED, "no memory");
    close(file);
    return memory;
}

__attribute__((unused)) static pthread_t start_thread(void *(*run)(void *), size_t number) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, named_memory(STACK_SIZE), STACK_SIZE);
    check(pthread_create(&thread, &attributes, run, (void *)number) == 0, "no thread");
    pthread_attr_destroy(&attributes);
    return thread;
}

/* ---------------------------------------------------------------------------------------------- the sums */
static uint64_t sum_of(const struct cadastre_memory *m) {
    return m->live + m->rounding + m->caches + m->outgoing + m->retired + m->free + m->tails + m->quarantine +
           m->retained + m->idle + m->headers + m->guards + m->threads + m->metadata + m->directory + m->debug +
           m->other;
}

/* What must hold of any answer in a quiet process. */
__attribute__((unused)) static void check_sums(const struct cadastre_stats *stats) {
    const struct cadastre_memory *m = &stats->mapped;
    check(sum_of(m) == m->total, "kinds sum to %zu, total is %zu", (size_t)sum_of(m), (size_t)m->total);
    check(m->other == 0, "%zu bytes are mapped, and not known", (size_t)m->other);
    check(stats->mapped_peak >= m->total && m->metadata >= stats->metadata_used, "bounds");
}

__attribute__((unused)) static struct cadastre_stats take_stats(void) {
    struct cadastre_stats stats;
    check(cadastre_stats(&stats, sizeof stats) == 0, "cadastre_stats: %s", strerror(errno));
    check(stats.size == sizeof stats, "size is %zu", stats.size);
    return stats;
}

/* ----------------------------------------------------------------------------------------------- the kernel's */
struct nameless {
    size_t size; /* of all mappings without a name */
    size_t resident;
};

static char *smaps; /* the file's text; in named memory */

#define SMAPS_MAX (4 * MIB)

__attribute__((unused)) static struct nameless read_smaps(void) {
    struct nameless sum = {0, 0};
    int file = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t got;
    check(file >= 0, "no /proc/self/smaps");
    while (length < SMAPS_MAX && (got = read(file, smaps + length, SMAPS_MAX - 1 - length)) > 0)
        length += (size_t)got;
    close(file);
    check(length < SMAPS_MAX - 1, "smaps is longer than the buffer");
    smaps[length] = '\0';
    bool is_nameless = false;
    for (char *line = smaps, *next; *line; line = next) {
        unsigned long start, end, inode;
        int used = 0;
        size_t kib;
        next = line + strcspn(line, "\n");
        next += *next == '\n';
        if (sscanf(line, "%lx-%lx %*s %*s %*s %lu%n", &start, &end, &inode, &used) == 3) {
            is_nameless = inode == 0 && line[used + (int)strspn(line + used, " ")] == '\n';
            sum.size += is_nameless ? end - start : 0;
        } else if (is_nameless && sscanf(line, "Rss: %zu kB", &kib) == 1) {
            sum.resident += kib * KIB;
        }
    }
    return sum;
}

#endif
