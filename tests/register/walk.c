/*
 * cadastre_walk: what it tells of each block, how it ends, what its callback may do; and that it is exact while 16
 * threads allocate, against a model for each.
 */
#include "cadastre.h"
#include "misuse/child.h"
#include "threads/random.h"

#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>

enum { SEEN = 1 << 18 };

static cadastre_block seen[SEEN];
static size_t seen_count;

static int note(void *argument, const cadastre_block *block) {
    (void)argument;
    if (seen_count < SEEN)
        seen[seen_count++] = *block;
    return 0;
}

static size_t walk(void) {
    seen_count = 0;
    check(cadastre_walk(note, NULL) == 0 && seen_count < SEEN, "the walk did not come to its end");
    for (size_t i = 1; i < seen_count; i++)
        check((uintptr_t)seen[i - 1].address + seen[i - 1].capacity <= (uintptr_t)seen[i].address, "not in order");
    return seen_count;
}

static const cadastre_block *find(const void *address) {
    size_t low = 0, high = seen_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if ((uintptr_t)seen[middle].address < (uintptr_t)address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < seen_count && seen[low].address == address ? &seen[low] : NULL;
}

/* ------------------------------------------------------------------------------------------------ one thread */
static void tells_each_block(void) {
    static const size_t sizes[] = {0, 1, 100, 1024, 1025, 5000, 65536, 65537, 1000000};
    void *blocks[COUNT(sizes)];
    for (size_t i = 0; i < COUNT(sizes); i++)
        blocks[i] = malloc(sizes[i]);
    walk();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        enum cadastre_category category = sizes[i] <= 1024    ? CADASTRE_TINY
                                          : sizes[i] <= 65536 ? CADASTRE_SMALL
                                                              : CADASTRE_LARGE;
        const cadastre_block *block = find(blocks[i]);
        check(block, "a block of %zu bytes is not visited", sizes[i]);
        check(block->size == sizes[i], "%zu bytes are said to be %zu", sizes[i], block->size);
        check(block->capacity == malloc_usable_size(blocks[i]), "capacity of %zu bytes: %zu", sizes[i],
              block->capacity);
        check(block->category == category, "category of %zu bytes: %d", sizes[i], block->category);
        if (category == CADASTRE_LARGE)
            check(block->arena == -1 && block->zone == blocks[i], "a LARGE block belongs to itself");
        else
            check(block->arena == find(blocks[0])->arena && block->zone < blocks[i], "arena and zone");
    }
    check(find(blocks[2])->zone == find(blocks[3])->zone, "two TINY blocks in two zones");
    check(find(blocks[2])->zone != find(blocks[5])->zone, "TINY and SMALL in one zone");
    for (size_t i = 0; i < COUNT(sizes); i++)
        free(blocks[i]);
    walk();
    for (size_t i = 0; i < COUNT(sizes); i++)
        check(!find(blocks[i]), "a freed block of %zu bytes is visited", sizes[i]);
}

static int count_down(void *left, const cadastre_block *block) {
    (void)block;
    return --*(int *)left == 0 ? 77 : 0;
}

static void stops_when_told(void) {
    void *blocks[5];
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = malloc(i == 4 ? 100000 : 50);
    size_t all = walk();
    for (int stop = 1; stop <= (int)all; stop++) {
        int left = stop;
        check(cadastre_walk(count_down, &left) == 77 && left == 0, "stopping at block %d of %zu", stop, all);
    }
    int left = (int)all + 1;
    check(cadastre_walk(count_down, &left) == 0 && left == 1, "not stopping");
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
}

static int set_errno(void *argument, const cadastre_block *block) {
    (void)argument;
    (void)block;
    errno = 5555;
    return 0;
}

static void leaves_errno_alone(void) {
    void *block = malloc(100);
    errno = 4444;
    walk();
    check(errno == 4444, "errno is %d", errno);
    cadastre_walk(set_errno, NULL);
    check(errno == 5555, "errno is %d, not the callback's", errno);
    free(block);
}

enum { OWN = 3000 };
static void *own[OWN];

static int nothing(void *argument, const cadastre_block *block) {
    (void)block;
    ++*(size_t *)argument;
    return 0;
}

/* Frees each of ours as it is visited, every other LARGE, and the zones under its feet; allocates; walks. */
static int meddle(void *argument, const cadastre_block *block) {
    size_t *visited = argument, inner = 0;
    for (size_t i = *visited % 3; i < OWN; i += 3) {
        if (own[i] != block->address)
            continue;
        free(own[i]);
        own[i] = NULL;
        free(malloc(i * 40));
    }
    if (++*visited % 500 == 0) {
        malloc_trim(0);
        cadastre_walk(nothing, &inner);
        check(inner > 0, "a walk inside of a walk visits nothing");
    }
    return 0;
}

static void callback_may_use_the_heap(void) {
    size_t visited = 0;
    for (size_t i = 0; i < OWN; i++)
        own[i] = malloc(i % 50 == 0 ? 70000 + i : i * 20);
    check(cadastre_walk(meddle, &visited) == 0 && visited >= OWN, "%zu blocks of %d visited", visited, OWN);
    for (size_t i = 0; i < OWN; i++)
        free(own[i]);
    expect_silence();
}

/* All zones of both categories go while the walk is in the first. */
static int free_all(void *argument, const cadastre_block *block) {
    (void)block;
    ++*(size_t *)argument;
    for (size_t i = 0; i < OWN; i++) {
        free(own[i]);
        own[i] = NULL;
    }
    malloc_trim(0);
    return 0;
}

static void zones_may_vanish(void) {
    size_t visited = 0;
    for (size_t i = 0; i < OWN; i++)
        own[i] = malloc(i % 2 ? 1000 : 9000);
    cadastre_walk(free_all, &visited);
    /* What was looked at before the first call is visited: one slab, or one LARGE block. */
    check(visited > 0 && visited < 200, "%zu blocks visited though all were freed at the first", visited);
    expect_silence();
}

static jmp_buf out;

static int leave(void *argument, const cadastre_block *block) {
    (void)argument;
    (void)block;
    longjmp(out, 1);
}

static void callback_may_jump_out(void) {
    void *block = malloc(10);
    for (volatile int i = 0; i < 1000; i++)
        if (setjmp(out) == 0)
            cadastre_walk(leave, NULL);
    for (size_t i = 0; i < 10000; i++)
        free(malloc(i));
    walk();
    check(find(block), "not visited after the jumps");
    free(block);
}

/* --------------------------------------------------------------------------------------------------- threads
 * Each thread has a class of its own that nobody else uses, and a model: the blocks of it that are live. It works in
 * bursts; one whose turn is the same even number before and after a walk has rested during all of it, and the blocks of
 * its class that were visited must be those of its model, no more and no less, whatever the others did meanwhile.
 */
enum { THREADS = 16, SLOTS = 300, WALKS = 1000, TINY_THREADS = 11, LARGE_THREAD = THREADS - 1 };

struct model {
    atomic_size_t turn;
    size_t capacity; /* of its class; LARGE: 0 */
    size_t count;    /* what follows is the owner's, and the reader's while the turn stands */
    _Atomic(void *) blocks[SLOTS];
    atomic_size_t sizes[SLOTS];
};

static struct model models[THREADS];
static uint64_t seed;
static atomic_int stop;
static pthread_barrier_t started, go;

static size_t size_for(const struct model *model, struct rng *rng) {
    return model->capacity == 0 ? rng_between(rng, 65537, 400000)
                                : rng_between(rng, model->capacity - 15, model->capacity);
}

static void *use_own_class(void *argument) {
    struct model *model = argument;
    struct rng rng = rng_stream(seed, (uint64_t)(model - models));
    pthread_barrier_wait(&started);
    pthread_barrier_wait(&go);
    while (!atomic_load(&stop)) {
        size_t steps = rng_between(&rng, 1, model->capacity == 0 ? 20 : 400);
        const struct timespec rest = {.tv_nsec = (long)rng_between(&rng, 1, 4000000)};
        atomic_fetch_add(&model->turn, 1);
        while (steps-- > 0) {
            size_t i = rng_between(&rng, 0, SLOTS - 1);
            free(atomic_load(&model->blocks[i]));
            size_t size = size_for(model, &rng);
            atomic_store(&model->blocks[i], rng_between(&rng, 0, 2) ? malloc(size) : NULL);
            atomic_store(&model->sizes[i], size);
        }
        atomic_fetch_add(&model->turn, 1);
        nanosleep(&rest, NULL);
    }
    return NULL;
}

/* Blocks of the model's class. */
static size_t visited_for(const struct model *model) {
    size_t count = 0;
    for (size_t i = 0; i < seen_count; i++)
        count += model->capacity == 0 ? seen[i].category == CADASTRE_LARGE : seen[i].capacity == model->capacity;
    return count;
}

static void compare(struct model *model, size_t before) {
    size_t live = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        void *block = atomic_load(&model->blocks[i]);
        const cadastre_block *found = block ? find(block) : NULL;
        live += block != NULL;
        check(!block || found, "a block of %zu bytes, live during the whole walk, is not visited",
              atomic_load(&model->sizes[i]));
        check(!block || found->size == atomic_load(&model->sizes[i]), "%zu bytes are said to be %zu",
              atomic_load(&model->sizes[i]), found->size);
    }
    size_t visited = visited_for(model) - before;
    check(visited == live, "%zu blocks of capacity %zu visited, %zu are live", visited, model->capacity, live);
}

static void exact_under_threads(void) {
    static const size_t tiny[TINY_THREADS] = {288, 320, 352, 384, 416, 448, 512, 576, 704, 832, 960};
    pthread_t threads[THREADS];
    size_t before[THREADS], compared = 0, busy = 0;
    seed = random_seed();
    for (size_t t = 0; t < THREADS; t++)
        models[t].capacity = t == LARGE_THREAD ? 0 : t < TINY_THREADS ? tiny[t] : (size_t)1280 << (t - TINY_THREADS);
    pthread_barrier_init(&started, NULL, THREADS + 1);
    pthread_barrier_init(&go, NULL, THREADS + 1);
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, use_own_class, &models[t]) == 0, "no thread");
    pthread_barrier_wait(&started);
    walk(); /* what the C library keeps for each thread may be of any class */
    for (size_t t = 0; t < THREADS; t++)
        before[t] = visited_for(&models[t]);
    pthread_barrier_wait(&go);
    for (int i = 0; i < WALKS; i++) {
        size_t turns[THREADS];
        for (size_t t = 0; t < THREADS; t++)
            turns[t] = atomic_load(&models[t].turn);
        walk();
        for (size_t t = 0; t < THREADS; t++) {
            if (turns[t] % 2 || atomic_load(&models[t].turn) != turns[t]) {
                busy++;
                continue;
            }
            /* The thread may go on now: what differs counts only if it has not. */
            compared++;
            struct model copy;
            memcpy(&copy, &models[t], sizeof copy);
            if (atomic_load(&models[t].turn) == turns[t])
                compare(&copy, before[t]);
        }
    }
    atomic_store(&stop, 1);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    diag("%d walks: %zu times a thread rested, %zu times it worked", WALKS, compared, busy);
    check(compared > 0 && busy > 0, "not both kinds were there to be seen");
    for (size_t t = 0; t < THREADS; t++)
        for (size_t i = 0; i < SLOTS; i++)
            free(atomic_load(&models[t].blocks[i]));
    expect_silence();
}

static const struct test_case cases[] = {
    {"each block with its sizes, category, arena and zone", tells_each_block},
    {"stops when the callback says so, with its result", stops_when_told},
    {"errno is as it was, or as the callback leaves it", leaves_errno_alone},
    {"the callback may free, allocate, trim and walk", callback_may_use_the_heap},
    {"zones may vanish under the walk", zones_may_vanish},
    {"the callback may leave by longjmp", callback_may_jump_out},
    {"16 threads: all that is live and nothing else", exact_under_threads},
};

MAIN_OF_CASES(cases)
