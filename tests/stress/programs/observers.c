/*
 * Random operations while the calling thread looks at the heap in every way that there is, changes options and trims.
 */
#include "stress.h"

#include <errno.h>

static void must_fit(const struct cadastre_memory *memory, const char *call) {
    uint64_t sum = 0;
    for (const uint64_t *kind = &memory->live; kind <= &memory->other; kind++)
        sum += *kind;
    must(sum == memory->total, "%s: the kinds sum to %llu, the total is %llu", call, (unsigned long long)sum,
         (unsigned long long)memory->total);
}

static void look_at_figures(struct rng *rng) {
    struct cadastre_stats stats;
    struct cadastre_arena_stats arena;
    struct cadastre_memory mapped, resident;
    switch (rng_between(rng, 0, 4)) {
    case 0:
        must(cadastre_stats(&stats, sizeof stats) == 0, "cadastre_stats: %s", strerror(errno));
        must_fit(&stats.mapped, "cadastre_stats");
        break;
    case 1:
        must(cadastre_arena_stats(0, &arena, sizeof arena) == 0, "cadastre_arena_stats: %s", strerror(errno));
        must_fit(&arena.mapped, "cadastre_arena_stats");
        break;
    case 2:
        must(cadastre_resident(&mapped, &resident, sizeof mapped) == 0, "cadastre_resident: %s", strerror(errno));
        break;
    case 3:
        mallinfo2();
        break;
    default:
        cadastre_stats_print(STDOUT_FILENO, (enum cadastre_format)rng_between(rng, CADASTRE_TEXT, CADASTRE_JSON));
    }
}

/* The last block's end, as blocks come in order. */
static int look_at_block(void *end, const cadastre_block *block) {
    uintptr_t start = (uintptr_t)block->address;
    must(start >= *(uintptr_t *)end, "%p is walked by after what ends beyond it", block->address);
    must(block->size <= block->capacity, "%p: %zu of %zu bytes", block->address, block->size, block->capacity);
    *(uintptr_t *)end = start + block->capacity;
    return 0;
}

static void look_at_blocks(struct rng *rng) {
    struct cadastre_show show = {sizeof show, .fd = STDOUT_FILENO, .hexdump = rng_between(rng, 0, 64)};
    uintptr_t end = 0;
    switch (rng_between(rng, 0, 4)) {
    case 0:
        show_alloc_mem();
        break;
    case 1:
        show.format = (enum cadastre_format)rng_between(rng, CADASTRE_TEXT, CADASTRE_JSON);
        show.what = (unsigned)rng_between(rng, 0, 31);
        show.size_min = rng_between(rng, 0, 10000);
        must(show_alloc_mem_ex(&show) == 0, "show_alloc_mem_ex: %s", strerror(errno));
        break;
    case 2:
        must(show_alloc_mem_map(STDOUT_FILENO) == 0, "show_alloc_mem_map: %s", strerror(errno));
        break;
    default:
        must(cadastre_walk(look_at_block, &end) == 0, "the walk did not come to its end");
    }
}

static void set_option(const char *name, const char *value) {
    bool taken = cadastre_option_set(name, value) == 0 || errno == EPERM;
    must(taken, "%s=%s is not taken: %s", name, value, strerror(errno));
}

static void change_option(struct rng *rng) {
    static const char *const changes[][2] = {{"LEAKS", "1"},           {"LEAKS", "0"},         {"RELEASE_AT_EXIT", "1"},
                                             {"RELEASE_AT_EXIT", "0"}, {"LOG", "/dev/stderr"}, {"LOG", ""},
                                             {"SCRIBBLE", "0"},        {"SCRIBBLE", "1"},      {"PERTURB", "0"},
                                             {"PERTURB", "77"},        {"CHECK_EACH", "0"},    {"CHECK_EACH", "500"}};
    size_t i = rng_between(rng, 0, sizeof changes / sizeof *changes - 1);
    set_option(changes[i][0], changes[i][1]);
}

static void tune(struct rng *rng) {
    if (rng_between(rng, 0, 1) != 0)
        mallopt(M_TRIM_THRESHOLD, (int)rng_between(rng, 0, 32 << 20));
    else
        mallopt(M_ARENA_MAX, (int)rng_between(rng, 1, 64));
}

static void look(struct worker *worker) {
    while (goes_on()) {
        switch (rng_between(&worker->rng, 0, 9)) {
        case 0:
        case 1:
            look_at_figures(&worker->rng);
            break;
        case 2:
        case 3:
        case 4:
            look_at_blocks(&worker->rng);
            break;
        case 5:
            heap_must_be_valid();
            break;
        case 6:
            malloc_trim(0);
            break;
        case 7:
            tune(&worker->rng);
            break;
        default:
            change_option(&worker->rng);
        }
        worker->operations++;
    }
    set_option("LEAKS", "0");
}

void run_observers(void) {
    run_operations(look);
}
