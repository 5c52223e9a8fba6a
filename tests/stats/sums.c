/*
 * cadastre_stats and cadastre_resident against a model of the blocks and against /proc/self/smaps, with 16 threads that
 * have allocated, freed one another's blocks, and rest with their caches full; and what must hold while they run.
 */
#include "stats/heap.h"

#include <sys/wait.h>

#define SLOTS 4000
#define HEAP  (96 * MIB)

struct slot {
    void *block;
    size_t size;
};

static struct slot *slots; /* SLOTS for each thread, written by it before a barrier and by its neighbour after */
static size_t slots_used;
static pthread_barrier_t barrier;
static atomic_bool stopped;

static void meet(void) {
    pthread_barrier_wait(&barrier);
}

static void fill(struct slot *slot, struct rng *rng) {
    slot->size = rng_size(rng);
    slot->block = malloc(slot->size);
    check(slot->block, "no memory");
    pattern_write(slot->block, slot->size, slot->size);
}

static void empty(struct slot *slot) {
    free(slot->block);
    *slot = (struct slot){NULL, 0};
}

static void *use_heap(void *number) {
    size_t t = (size_t)number;
    struct rng rng = rng_stream(5, t);
    struct slot *mine = slots + t * SLOTS;
    struct slot *neighbours = slots + (t + 1) % THREADS * SLOTS;
    meet();
    for (size_t i = 0; i < slots_used; i++)
        fill(&mine[i], &rng);
    meet();
    for (size_t i = 0; i < slots_used; i++) /* every third, most of them another arena's */
        if (rng_next(&rng) % 3 == 0)
            empty(&neighbours[i]);
    meet();
    for (size_t i = 0; i < slots_used; i++)
        if (mine[i].block == NULL && rng_next(&rng) % 2 == 0)
            fill(&mine[i], &rng);
    meet();
    meet(); /* all rest while the main thread looks */
    return NULL;
}

static pthread_t threads[THREADS];

/* Before: the tables are there, and the process has nothing of the threads'. */
static void prepare(void) {
    size_t heap = mem_bound(HEAP);
    slots_used = SLOTS * heap / HEAP;
    diag("%zu MiB of blocks at most", heap / MIB);
    slots = named_memory(THREADS * SLOTS * sizeof *slots);
    smaps = named_memory(SMAPS_MAX);
    free(malloc(1));
}

/* Gives the figures from before the first block of the threads' own: what a thread itself needs is there by then. */
static struct cadastre_stats run_threads(void) {
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (size_t t = 0; t < THREADS; t++)
        threads[t] = start_thread(use_heap, t);
    struct cadastre_stats before = take_stats();
    for (int i = 0; i < 4; i++)
        meet();
    return before;
}

static void end_threads(void) {
    meet();
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
}

/* ------------------------------------------------------------------------------------------------- the model */
static void check_model(const struct cadastre_stats *before, const struct cadastre_stats *now) {
    uint64_t blocks = 0, bytes = 0, rounding = 0, large = 0;
    for (size_t i = 0; i < THREADS * SLOTS; i++) {
        if (slots[i].block == NULL)
            continue;
        blocks++;
        bytes += slots[i].size;
        rounding += malloc_usable_size(slots[i].block) - slots[i].size;
        large += slots[i].size > 64 * KIB;
    }
    check(blocks > 1000 && large > 10, "hardly a block");
    check(now->live_blocks - before->live_blocks == blocks, "blocks: %zu and not %zu",
          (size_t)(now->live_blocks - before->live_blocks), (size_t)blocks);
    check(now->large_blocks - before->large_blocks == large, "LARGE blocks");
    check(now->mapped.live - before->mapped.live == bytes, "bytes: %zu and not %zu",
          (size_t)(now->mapped.live - before->mapped.live), (size_t)bytes);
    check(now->mapped.rounding - before->mapped.rounding == rounding, "rounding: %zu and not %zu",
          (size_t)(now->mapped.rounding - before->mapped.rounding), (size_t)rounding);
}

/* The laws of one arena. */
static void check_arena(const struct cadastre_arena_stats *arena) {
    uint64_t outside = 0, slabs = 0, cached_bytes = 0, free_bytes = 0;
    for (size_t class = 0; class < CADASTRE_CLASSES; class ++) {
        const struct cadastre_class_stats *c = &arena->classes[class];
        outside += c->live + c->cached;
        slabs += c->slabs;
        cached_bytes += c->cached * c->block_size;
        free_bytes += c->free * c->block_size;
        check(c->live + c->cached + c->free == (uint64_t)c->slabs * (64 * KIB / c->block_size),
              "class %u: live, cached and free blocks are not what its slabs hold", c->block_size);
    }
    check(arena->refilled - arena->flushed == outside, "%zu blocks left, %zu came back, %zu are outside",
          (size_t)arena->refilled, (size_t)arena->flushed, (size_t)outside);
    check(slabs == arena->slabs && cached_bytes == arena->mapped.caches && free_bytes == arena->mapped.free,
          "the classes do not sum to the arena's figures");
    check(sum_of(&arena->mapped) == arena->mapped.total && arena->mapped_peak >= arena->mapped.total, "arena's sum");
    check(arena->remote_frees <= arena->flushed && arena->zones <= arena->zones_mapped, "arena's counters");
    check(arena->lock.acquisitions >= arena->refills + arena->flushes, "every batch takes the lock");
}

static void check_arenas(const struct cadastre_stats *stats, uint64_t least_remote) {
    struct cadastre_arena_stats arena;
    uint64_t slabs_memory = 0, free_blocks = 0, cached_blocks = 0, remote = 0, guards = 0;
    uint64_t caches = 0, of_slabs = stats->mapped.headers + stats->mapped.free;
    for (unsigned i = 0; i < stats->arenas; i++) {
        check(cadastre_arena_stats(i, &arena, sizeof arena) == 0 && arena.size == sizeof arena, "arena %u", i);
        check_arena(&arena);
        slabs_memory += arena.mapped.headers + arena.mapped.free;
        guards += arena.mapped.guards;
        caches += arena.mapped.caches;
        remote += arena.remote_frees;
        for (size_t class = 0; class < CADASTRE_CLASSES; class ++) {
            free_blocks += arena.classes[class].free;
            cached_blocks += arena.classes[class].cached;
        }
    }
    check(slabs_memory == of_slabs && caches == stats->mapped.caches + stats->mapped.outgoing,
          "the arenas do not sum to the whole");
    check(guards > 0 && guards < stats->mapped.guards, "guards of zones, and those of what is no arena's");
    check(free_blocks == stats->free_blocks && cached_blocks == stats->cached_blocks, "nor do their blocks");
    check(remote >= least_remote, "%zu remote frees, at least %zu were made", (size_t)remote, (size_t)least_remote);
    errno = 0;
    check(cadastre_arena_stats((unsigned)stats->arenas, &arena, sizeof arena) == -1 && errno == ENOENT,
          "there is an arena more");
}

static void at_rest(void) {
    prepare();
    struct cadastre_stats before = run_threads();
    struct cadastre_stats stats = take_stats();
    check_sums(&stats);
    check_model(&before, &stats);
    check_arenas(&stats, 1000);
    check(stats.caches == THREADS + 1, "%zu thread caches", (size_t)stats.caches);
    check(stats.mapped.caches > 0 && stats.mapped.outgoing > 0, "the caches are empty");
    check(stats.mapped.outgoing <= THREADS * 96 * KIB, "more is outgoing than the batches hold");
    end_threads();
    stats = take_stats();
    check_sums(&stats);
    check(stats.mapped.outgoing == 0, "threads that have ended leave nothing outgoing");
    check_arenas(&stats, 1000);
}

/* Blocks of which some are longer than what is left in the batch. */
static void *give_one_by_one(void *blocks) {
    size_t most = 0;
    free(malloc(10)); /* for a cache of its own */
    for (void **block = blocks; *block; block++) {
        free(*block);
        most = most > take_stats().mapped.outgoing ? most : take_stats().mapped.outgoing;
    }
    check(most > 0 && most <= 96 * KIB, "%zu bytes are outgoing", most);
    return NULL;
}

static void one_batch(void) {
    static void *blocks[101];
    static const size_t sizes[] = {32000, 65536, 65536, 20000, 50};
    pthread_t thread;
    for (size_t i = 0; i < COUNT(blocks) - 1; i++)
        blocks[i] = malloc(sizes[i % COUNT(sizes)]);
    check(pthread_create(&thread, NULL, give_one_by_one, blocks) == 0 && pthread_join(thread, NULL) == 0, "no thread");
}

/* ----------------------------------------------------------------------------------------------- the kernel's */
static void against_smaps(void) {
    struct cadastre_memory mapped, resident;
    prepare();
    check(cadastre_resident(&mapped, &resident, sizeof mapped) == 0, "cadastre_resident");
    struct nameless before = read_smaps();
    size_t others_size = before.size - mapped.total;
    size_t others_resident = before.resident - resident.total;
    run_threads();
    check(cadastre_resident(&mapped, &resident, sizeof mapped) == 0, "cadastre_resident");
    struct nameless now = read_smaps();
    size_t rss = now.resident - others_resident;
    diag("mapped %zu KiB, smaps %zu; resident %zu KiB, smaps %zu", (size_t)mapped.total / KIB,
         (now.size - others_size) / KIB, (size_t)resident.total / KIB, rss / KIB);
    check(mapped.other == 0 && sum_of(&mapped) == mapped.total, "mapped bytes do not sum");
    check(sum_of(&resident) == resident.total, "resident bytes do not sum");
    check(now.size - others_size == mapped.total, "mapped is not what smaps shows");
    size_t difference = rss > resident.total ? rss - resident.total : resident.total - rss;
    check(difference <= rss / 50, "resident differs by %zu from what smaps shows", difference);
    check(resident.total > 16 * MIB || slots_used < SLOTS, "hardly anything is resident");
    const uint64_t *of_mapped = (const uint64_t *)&mapped, *of_resident = (const uint64_t *)&resident;
    for (size_t i = 0; i < sizeof mapped / sizeof *of_mapped; i++)
        check(of_resident[i] <= of_mapped[i], "kind %zu: more is resident than mapped", i);
    check(resident.guards == 0 && resident.headers > 0 && resident.metadata > 0 && resident.directory > 0,
          "own memory");
    end_threads();
}

static void untouched(void) {
    const size_t size = 32 * MIB, touched = 5 * MIB;
    struct cadastre_memory mapped, before, now;
    char *block = malloc(size);
    check(block, "no memory");
    check(cadastre_resident(NULL, &before, sizeof before) == 0, "cadastre_resident");
    memset(block + 3 * MIB, 1, touched);
    check(cadastre_resident(&mapped, &now, sizeof now) == 0, "cadastre_resident");
    size_t gained = now.live - before.live;
    check(gained >= touched && gained <= touched + 2 * MIB, "%zu bytes were touched, %zu are resident", touched,
          gained);
    check(mapped.live - now.live >= size - touched - 2 * MIB, "the rest is not untouched");
    check(mapped.live - now.live <= size - touched + MIB, "more than the rest is untouched");
    free(block);
    check(cadastre_resident(&mapped, &now, sizeof now) == 0, "cadastre_resident");
    check(mapped.live < size && mapped.total == sum_of(&mapped), "freed, it is not live");
}

/* --------------------------------------------------------------------------------------------- while they run */
#define HELD 3000

static void *churn(void *number) {
    struct rng rng = rng_stream(6, (size_t)number);
    struct slot *mine = slots + (size_t)number * SLOTS;
    while (!atomic_load_explicit(&stopped, memory_order_relaxed)) {
        struct slot *slot = &mine[rng_next(&rng) % 200];
        size_t size = rng_size(&rng);
        free(slot->block);
        slot->block = malloc(size > 192 && size <= 208 ? 1 : size);
    }
    return NULL;
}

static uint64_t live_of_class(uint32_t size) {
    struct cadastre_arena_stats arena;
    uint64_t live = 0;
    for (unsigned i = 0; cadastre_arena_stats(i, &arena, sizeof arena) == 0; i++)
        for (size_t class = 0; class < CADASTRE_CLASSES; class ++)
            live += arena.classes[class].block_size == size ? arena.classes[class].live : 0;
    return live;
}

/* Blocks of a class that the other threads leave alone. */
static void while_threads_run(void) {
    static void *held[HELD];
    prepare();
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    uint64_t before = live_of_class(208);
    for (size_t i = 0; i < HELD; i++)
        held[i] = malloc(200);
    for (size_t t = 0; t < THREADS; t++)
        threads[t] = start_thread(churn, t);
    for (int i = 0; i < 30; i++) {
        struct cadastre_stats stats = take_stats();
        check(live_of_class(208) == before + HELD, "blocks that nobody frees are not all live");
        check(stats.mapped.total >= sum_of(&stats.mapped) && stats.live_blocks >= HELD, "figures of a running heap");
        check(cadastre_stats_print(nowhere, i % 2 ? CADASTRE_JSON : CADASTRE_TEXT) == 0, "print");
        check(mallinfo2().uordblks >= HELD * 208, "mallinfo2");
    }
    stopped = true;
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    struct cadastre_stats stats = take_stats();
    check_sums(&stats);
    check_arenas(&stats, 0);
    for (size_t i = 0; i < HELD; i++)
        free(held[i]);
}

/* All threads on one arena; a fork holds its lock for long. */
static void contention(void) {
    struct cadastre_arena_stats arena = {.size = 0};
    prepare();
    for (size_t t = 0; t < THREADS; t++)
        threads[t] = start_thread(churn, t);
    int forks = 0;
    for (; forks < 1000 && arena.lock.slept_ns == 0; forks++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
        check(cadastre_arena_stats(0, &arena, sizeof arena) == 0, "arena 0");
    }
    stopped = true;
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    diag("%d forks: %zu of %zu acquisitions contended, %zu ns slept", forks, (size_t)arena.lock.contended,
         (size_t)arena.lock.acquisitions, (size_t)arena.lock.slept_ns);
    check(arena.lock.contended > 0 && arena.lock.slept_ns > 0, "no contention");
    check(arena.lock.contended <= arena.lock.acquisitions, "more contended than acquired");
    check(cadastre_arena_stats(0, &arena, sizeof arena) == 0 && arena.threads == 1 && take_stats().arenas == 1,
          "one arena, one thread");
}

static void in_child(void) {
    prepare();
    struct cadastre_stats before = run_threads();
    pid_t child = fork();
    if (child == 0) {
        struct cadastre_stats stats = take_stats();
        check_sums(&stats);
        check_model(&before, &stats);
        check_arenas(&stats, 1000);
        _exit(0);
    }
    int status;
    check(waitpid(child, &status, 0) == child && status == 0, "the child's figures");
    end_threads();
}

/* ----------------------------------------------------------------------------------------------- the interface */
static void sizes(void) {
    struct {
        struct cadastre_stats stats;
        char more[64];
    } longer;
    struct cadastre_stats whole = take_stats();
    struct cadastre_memory memory;
    memset(&longer, 0x7f, sizeof longer);
    check(cadastre_stats(&longer.stats, offsetof(struct cadastre_stats, live_blocks)) == 0, "a short structure");
    check(longer.stats.arenas == whole.arenas && longer.stats.size == sizeof whole, "what fits is filled in");
    check(longer.stats.live_blocks == UINT64_C(0x7f7f7f7f7f7f7f7f), "what does not is left alone");
    check(cadastre_stats(&longer.stats, sizeof longer) == 0, "a long structure");
    check(longer.stats.mapped.total > 0 && longer.more[0] == 0 && longer.more[63] == 0, "what is unknown is zero");
    errno = 0;
    check(cadastre_stats(&longer.stats, 7) == -1 && errno == EINVAL, "too short");
    errno = 0;
    check(cadastre_arena_stats(0, NULL, 0) == -1 && errno == EINVAL, "too short, of an arena");
    errno = 0;
    check(cadastre_resident(&memory, NULL, 7) == -1 && errno == EINVAL, "too short, of memory");
    memory.live = 1234;
    check(cadastre_resident(&memory, NULL, 8) == 0 && memory.live == 1234, "only what there is room for");
    errno = 0;
    check(cadastre_stats_print(-1, CADASTRE_TEXT) == -1 && errno == EINVAL, "no descriptor");
    errno = 0;
    check(cadastre_stats_print(1, (enum cadastre_format)7) == -1 && errno == EINVAL, "no format");
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    errno = 0;
    check(cadastre_stats_print(full, CADASTRE_JSON) == -1 && errno == EIO, "a descriptor that refuses");
}

static void macos(void) {
    int local;
    check(malloc_size(NULL) == 0 && malloc_size(&local) == 0, "no block, no size");
    for (size_t size = 1; size < 300000; size += 1 + size / 7) {
        char *block = malloc(size);
        size_t good = malloc_good_size(size);
        check(malloc_size(block) == malloc_usable_size(block) && malloc_size(block) >= good && good >= size, "size %zu",
              size);
        check(size > 64 * KIB ? good % 4096 == 0 : good == malloc_size(block), "good size of %zu", size);
        check(malloc_size(block + 1) == 0 && cadastre_malloc_size(block) == malloc_size(block), "size %zu", size);
        free(block);
        check(malloc_size(block) == 0, "freed, it has no size");
    }
    check(malloc_good_size(0) == 16 && cadastre_malloc_good_size(17) == 32, "the least");
    check(malloc_good_size(SIZE_MAX) == SIZE_MAX, "no overflow");
    expect_silence();
}

static const struct set_case cases[] = {
    {{"16 threads at rest: every sum, the model, and each arena's laws", at_rest}, NULL, "CADASTRE_ARENAS=8"},
    {{"a thread's batch of outgoing blocks keeps to its bytes", one_batch}, NULL, "CADASTRE_ARENAS=8"},
    {{"16 threads at rest: mapped exactly and resident within 2% as in smaps", against_smaps}, NULL, NULL},
    {{"live memory that was not touched", untouched}, NULL, NULL},
    {{"16 threads running", while_threads_run}, NULL, NULL},
    {{"contended locks", contention}, NULL, "CADASTRE_ARENAS=1"},
    {{"a child of fork", in_child}, NULL, NULL},
    {{"structures of other sizes, and errors", sizes}, NULL, NULL},
    {{"malloc_size and malloc_good_size", macos}, NULL, NULL},
};

MAIN_OF_SET_CASES(cases)
