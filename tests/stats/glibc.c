/*
 * The C library's mallinfo2, mallinfo, malloc_trim, mallopt and malloc_info: their figures against a model of the
 * blocks, and that what is tuned takes effect.
 */
#include "stats/heap.h"

#define SLOTS 3000

/* mallinfo, whose figures may not fit its ints: here they do. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static struct {
    void *block;
    size_t size;
} slots[SLOTS];

struct model {
    size_t small_bytes; /* by capacity */
    size_t large_bytes;
    size_t large_blocks;
};

static struct model model_of_slots(void) {
    struct model model = {0, 0, 0};
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].block == NULL)
            continue;
        size_t capacity = malloc_usable_size(slots[i].block);
        model.large_blocks += slots[i].size > 64 * KIB;
        *(slots[i].size > 64 * KIB ? &model.large_bytes : &model.small_bytes) += capacity;
    }
    return model;
}

static void check_info(const struct mallinfo2 *before) {
    struct model model = model_of_slots();
    struct mallinfo2 info = mallinfo2();
    struct mallinfo old = mallinfo();
    struct cadastre_stats stats = take_stats();
    check(info.uordblks - before->uordblks == model.small_bytes, "uordblks: %zu and not %zu",
          info.uordblks - before->uordblks, model.small_bytes);
    check(info.hblkhd - before->hblkhd == model.large_bytes, "hblkhd: %zu and not %zu", info.hblkhd - before->hblkhd,
          model.large_bytes);
    check(info.hblks - before->hblks == model.large_blocks, "hblks");
    check(info.arena == info.uordblks + info.fordblks, "arena is not uordblks + fordblks");
    check(info.arena + info.hblkhd + stats.mapped.headers + stats.mapped.guards + stats.mapped.threads +
                  stats.mapped.metadata + stats.mapped.directory ==
              stats.mapped.total,
          "and the library's own, it is not what is mapped");
    check(info.fsmblks == stats.mapped.caches + stats.mapped.outgoing && info.smblks == stats.cached_blocks, "cached");
    check(info.ordblks == stats.free_blocks + stats.large_free, "ordblks");
    check(info.fsmblks <= info.fordblks && info.keepcost == stats.mapped.retained && info.usmblks == 0, "the others");
    check((int)info.arena == old.arena && (int)info.uordblks == old.uordblks && (int)info.hblkhd == old.hblkhd &&
              (int)info.fordblks == old.fordblks && (int)info.ordblks == old.ordblks &&
              (int)info.keepcost == old.keepcost && (int)info.smblks == old.smblks &&
              (int)info.fsmblks == old.fsmblks && (int)info.hblks == old.hblks,
          "mallinfo is not mallinfo2");
}

static void against_model(void) {
    struct rng rng = rng_stream(random_seed(), 0);
    size_t steps = mem_bound(64 * MIB) / KIB;
    struct mallinfo2 before = mallinfo2();
    diag("%zu steps", steps);
    for (size_t step = 0; step < steps; step++) {
        size_t i = rng_next(&rng) % SLOTS;
        size_t size = 1 + rng_size(&rng);
        if (rng_next(&rng) % 3 == 0 || (size > 64 * KIB) != (slots[i].size > 64 * KIB)) {
            free(slots[i].block); /* a LARGE block may stay one when it shrinks */
            slots[i].block = NULL;
        }
        if (rng_next(&rng) % 3 > 0) {
            slots[i].block = realloc(slots[i].block, size);
            check(slots[i].block, "no memory");
            slots[i].size = size;
        }
        if (step % (steps / 50) == 0)
            check_info(&before);
    }
    check_info(&before);
}

static void fill(size_t count, size_t size) {
    for (size_t i = 0; i < count; i++) {
        slots[i].block = malloc(size);
        check(slots[i].block, "no memory");
        memset(slots[i].block, 1, size);
    }
}

static void empty(size_t count) {
    for (size_t i = 0; i < count; i++)
        free(slots[i].block);
}

static void trim(void) {
    fill(2000, 10000);
    empty(2000);
    size_t kept = mallinfo2().keepcost;
    check(kept > 4 * MIB, "%zu bytes are retained of 20 MB", kept);
    size_t before = resident();
    check(malloc_trim(0) == 1, "malloc_trim gave nothing back");
    check(mallinfo2().keepcost == 0, "something is retained after malloc_trim");
    check(resident() + kept / 2 < before, "resident before malloc_trim %zu, after it %zu", before, resident());
    check(malloc_trim(0) == 0, "malloc_trim gave something back once more");
}

static void trim_threshold(void) {
    size_t count = mem_bound(80 * MIB) / (32 * KIB);
    size_t heap = count * 32 * KIB;
    fill(count, 32 * KIB);
    check(mallopt(M_TRIM_THRESHOLD, -1) == 1, "mallopt");
    empty(count);
    size_t all = mallinfo2().keepcost;
    check(all > heap - 4 * MIB, "%zu bytes of %zu are retained without a bound", all, heap);
    check(mallopt(M_TRIM_THRESHOLD, 8 << 20) == 1, "mallopt");
    size_t some = mallinfo2().keepcost;
    check(some <= 8 * MIB && some > 0, "%zu bytes are retained where 8 MiB may be", some);
    check(mallopt(M_TRIM_THRESHOLD, 0) == 1, "mallopt");
    struct cadastre_stats stats = take_stats();
    check(stats.mapped.retained <= (stats.mapped.live + stats.mapped.rounding + stats.mapped.caches) / 8,
          "%zu bytes are retained where an eighth of what is live may be", (size_t)stats.mapped.retained);
}

static pthread_barrier_t all;

/* No thread ends before all have an arena. */
static void *allocate(void *nothing) {
    free(malloc(100));
    pthread_barrier_wait(&all);
    return nothing;
}

static size_t arenas_used(void) {
    struct cadastre_arena_stats arena;
    size_t used = 0;
    for (unsigned i = 0; cadastre_arena_stats(i, &arena, sizeof arena) == 0; i++)
        used += arena.refills > 0;
    return used;
}

static void arena_max(void) {
    pthread_t threads[8];
    pthread_barrier_init(&all, NULL, COUNT(threads));
    free(malloc(100));
    check(mallopt(M_ARENA_MAX, 2) == 1 && mallopt(M_ARENA_MAX, 0) == 1, "mallopt");
    for (size_t t = 0; t < COUNT(threads); t++)
        threads[t] = start_thread(allocate, t);
    for (size_t t = 0; t < COUNT(threads); t++)
        pthread_join(threads[t], NULL);
    check(arenas_used() == 2, "%zu arenas are in use", arenas_used());
}

static void other_parameters(void) {
    static const int parameters[] = {M_MMAP_THRESHOLD, M_MMAP_MAX,     M_TOP_PAD, M_ARENA_TEST,
                                     M_MXFAST,         M_CHECK_ACTION, 12345};
    for (size_t i = 0; i < COUNT(parameters); i++)
        check(mallopt(parameters[i], 100000) == 1, "parameter %d", parameters[i]);
    check(mallopt(M_PERTURB, 0x5a) == 0, "M_PERTURB is accepted where nothing fills blocks");
}

/* A block's bytes are the complement when it is taken. */
static void perturb(void) {
    check(mallopt(M_PERTURB, 0x5a) == 1, "mallopt");
    unsigned char *block = malloc(1000);
    check(block[0] == 0xa5 && block[999] == 0xa5, "a block is filled with %02x", block[0]);
    free(block);
}

static void info_errors(void) {
    FILE *full = fopen("/dev/full", "w");
    check(malloc_info(1, stdout) == EINVAL, "options are reserved");
    setvbuf(full, NULL, _IONBF, 0);
    check(malloc_info(0, full) == -1, "a stream that refuses");
    fclose(full);
}

/* Of the line that begins so. */
static unsigned long long figure(const char *lines, const char *name) {
    char start[64];
    snprintf(start, sizeof start, "\n%s", name);
    const char *line = strstr(lines, start);
    check(line != NULL, "no line %s", name);
    return strtoull(strchr(line, '=') + 1, NULL, 10);
}

static void stats_lines(void) {
    void *small = malloc(100);
    fill(40, 200000);
    size_t most = mallinfo2().hblkhd;
    empty(40);
    void *block = malloc(200000);
    malloc_stats();
    char text[4096];
    ssize_t length = pread(STDERR_FILENO, text, sizeof text - 1, 0);
    check(length > 0, "malloc_stats prints nothing");
    text[length] = '\0';
    check(matches(text,
                  "Arena 0:\nsystem bytes     = *\nin use bytes     = *\n*Total (incl. mmap):\nsystem bytes     = *"
                  "\nin use bytes     = *\nmax mmap regions =         40\nmax mmap bytes   =    *\n*"),
          "malloc_stats: %s", text);
    const char *total = strstr(text, "Total");
    check(figure(total, "system") == take_stats().mapped.total, "system bytes");
    check(figure(total, "mmap regions") == 1, "mmap regions");
    check(figure(total, "mmap bytes") == malloc_usable_size(block), "mmap bytes");
    check(figure(total, "max mmap bytes") == most, "the most bytes were %zu: %s", most, text);
    free(small);
    free(block);
}

static const struct set_case cases[] = {
    {{"mallinfo2 and mallinfo against a model", against_model}, NULL, NULL},
    {{"malloc_trim", trim}, NULL, NULL},
    {{"M_TRIM_THRESHOLD bounds what is retained", trim_threshold}, NULL, NULL},
    {{"M_ARENA_MAX bounds the arenas of new threads", arena_max}, NULL, "CADASTRE_ARENAS=8"},
    {{"the other parameters of mallopt", other_parameters}, NULL, NULL},
    {{"M_PERTURB", perturb}, NULL, "CADASTRE_PERTURB=1"},
    {{"errors of malloc_info", info_errors}, NULL, NULL},
    {{"malloc_stats", stats_lines}, NULL, NULL},
};

MAIN_OF_SET_CASES(cases)
