/*
 * The kernel's bound on the number of mappings (vm.max_map_count, 65,530 by default) is all but reached: what would
 * split a mapping is refused, a munmap among it. No crash, ENOMEM, contents kept; what is freed can be had again, and
 * when there are mappings again, the kernel gets back what it would not take before.
 */
#include "cadastre.h"
#include "limits/memory.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <malloc.h>

enum { SLOTS = 400, MOST = 70000 };

static char *reserve; /* pages, every other one of which is a mapping of its own; and so are those between */
static size_t reserved;

/* Splits mappings until the kernel refuses, and joins so many as are to be left. */
static void use_up(size_t left) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    reserve = mmap(NULL, 2 * MOST * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(reserve != MAP_FAILED, "no addresses");
    while (reserved < MOST && mprotect(reserve + 2 * reserved * page, page, PROT_READ) == 0)
        reserved++;
    if (reserved == MOST)
        skip_case("more than %d mappings are allowed here", MOST);
    for (; left > 1 && reserved > 0; left -= 2)
        mprotect(reserve + 2 * --reserved * page, page, PROT_NONE);
}

static void give_back(void) {
    munmap(reserve, 2 * MOST * (size_t)sysconf(_SC_PAGESIZE));
}

static struct {
    unsigned char *block;
    size_t size;
} slots[SLOTS];

static void set(size_t i, unsigned char *block, size_t size) {
    slots[i].block = block;
    slots[i].size = block ? size : 0;
    pattern_write(slots[i].block, slots[i].size, i);
}

static size_t refused;

static void churn(uint64_t stream, int steps) {
    struct rng rng = rng_stream(5, stream);
    for (int step = 0; step < steps; step++) {
        size_t i = rng_between(&rng, 0, SLOTS - 1), kind = rng_between(&rng, 0, 9);
        size_t size = kind < 4   ? rng_between(&rng, 1, 2000)
                      : kind < 8 ? rng_between(&rng, 2000, 300000)
                                 : rng_between(&rng, 300000, 9000000);
        check(pattern_holds(slots[i].block, slots[i].size, i), "a block of %zu bytes changed", slots[i].size);
        errno = 0;
        if (step % 3 == 0 && slots[i].block) {
            unsigned char *block = realloc(slots[i].block, size);
            check(block || (size > slots[i].size && errno == ENOMEM), "realloc from %zu to %zu: errno %d",
                  slots[i].size, size, errno);
            refused += !block;
            if (block)
                set(i, block, size);
        } else {
            free(slots[i].block);
            unsigned char *block = step % 3 == 1 ? calloc(1, size) : memalign((size_t)16 << step % 12, size);
            check(block || errno == ENOMEM, "NULL with errno %d", errno);
            for (size_t at = 0; block && step % 3 == 1 && at < size; at += 512)
                check(block[at] == 0, "calloc gave a byte that is not 0");
            refused += !block;
            set(i, block, size);
        }
    }
}

static void empty(void) {
    for (size_t i = 0; i < SLOTS; i++) {
        check(pattern_holds(slots[i].block, slots[i].size, i), "a block of %zu bytes changed", slots[i].size);
        free(slots[i].block);
        slots[i].block = NULL;
        slots[i].size = 0;
    }
}

/* All that the process has mapped, and nobody but the kernel knows of. */
static size_t unknown(void) {
    struct cadastre_stats stats;
    check(cadastre_stats(&stats, sizeof stats) == 0, "no statistics");
    return proc_bytes("/proc/self/status", "VmSize:") - stats.mapped.total;
}

static void with_left(size_t left) {
    struct cadastre_stats stats;
    size_t before = unknown();
    churn(0, 1000);
    use_up(left);
    diag("%zu mappings, about %zu to spare", mappings(), left);
    churn(1, 1500);
    empty();
    malloc_trim(0);
    churn(2, 1500);
    check(cadastre_check() == 0, "the heap contradicts itself");
    diag("%zu requests refused", refused);
    give_back();
    refused = 0;
    churn(3, 1000);
    check(refused == 0, "%zu requests refused although there are mappings again", refused);
    empty();
    malloc_trim(0);
    check(cadastre_check() == 0, "the heap contradicts itself at last");
    check(cadastre_stats(&stats, sizeof stats) == 0 && stats.mapped.live == 0, "%zu bytes are live",
          (size_t)stats.mapped.live);
    check(unknown() == before, "%zu bytes more than before are mapped, and not accounted for", unknown() - before);
    diag("%zu KiB stay mapped, of which %zu KiB the kernel would not take back", (size_t)stats.mapped.total / KIB,
         (size_t)stats.mapped.other / KIB);
    expect_silence();
}

static void none_left(void) {
    with_left(0);
}

static void some_left(void) {
    with_left(60);
}

static const struct set_case cases[] = {
    {{"no mapping to spare", none_left}, NULL, NULL},
    {{"60 to spare", some_left}, NULL, NULL},
    {{"60 to spare, with guards around LARGE blocks", some_left}, NULL, "CADASTRE_GUARD=edges"},
};

MAIN_OF_SET_CASES(cases)
