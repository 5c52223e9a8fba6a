/*
 * The whole API against a model. An input is a list of operations of four bytes each; after it, and now and then in
 * between, the register, the heap's own check and the statistics must agree with the model. Four threads take turns, so
 * that a run can be repeated; what the kernel refuses is a part of the input.
 */
#include "account.h"
#include "arenas.h"
#include "cadastre.h"
#include "config.h"
#include "faults/kernel.h"
#include "leaks.h"
#include "options.h"
#include "os.h"
#include "process.h"
#include "threads/random.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>

enum { SLOTS = 48, DEAD = 8, BURST = 600, ACTORS = 4, CHECK_EACH = 16, UNTOUCHED = 4321 };

#define LIVE_MAX (48 * MIB) /* bytes at once; what the address space could not hold is asked for all the same */
#define FILL_MAX (16 * MIB) /* of a block's bytes, so many have a pattern */

#define check(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "operation %zu: ", operations_done);                                                       \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "\n  failed: %s (%s:%d)\n", #condition, __FILE__, __LINE__);                               \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct operation {
    uint8_t code, slot, low, high;
};

struct slot {
    unsigned char *block; /* NULL: empty */
    size_t size;
    size_t capacity;
    uint64_t tag; /* of the pattern that all of the capacity is filled with */
    bool seen;    /* by the walk */
};

static struct slot slots[SLOTS];
/* Blocks of one size, taken together and given back together, by address. */
static struct {
    unsigned char *blocks[BURST];
    size_t count;
    size_t size;
} burst;

static size_t live_bytes; /* as requested */
static void *dead[DEAD];  /* blocks freed last */
static size_t dead_next;
static uint64_t tags;
static size_t operations_done;
static int nowhere; /* /dev/null */

/* ------------------------------------------------------------------------------------------------- the model */
static size_t size_of(const struct operation *op) {
    static const size_t edges[] = {
        0,
        1,
        15,
        16,
        17,
        256,
        257,
        1008,
        1024,
        1025,
        4095,
        4096,
        4097,
        32768,
        32769,
        65535,
        SMALL_MAX,
        65537,
        131072,
        135168,
        1 << 20,
        (1 << 20) + 1,
        4 << 20,
        (4 << 20) + 4096,
        LARGE_MAX,
        2 * LARGE_MAX,
        PTRDIFF_MAX,
        (size_t)PTRDIFF_MAX + 1,
        SIZE_MAX - 65535,
        SIZE_MAX - 4096,
        SIZE_MAX - 15,
        SIZE_MAX,
    };
    size_t value = (size_t)op->low | (size_t)(op->high & 31) << 8;
    switch (op->high >> 5) {
    case 0:
    case 1:
    case 2:
        return value % 1100;
    case 3:
    case 4:
        return value * 9; /* to 73,719 */
    case 5:
        return value << 6; /* to 512 KiB */
    case 6:
        return value << 10; /* to 8 MiB */
    default:
        return edges[value % (sizeof edges / sizeof *edges)];
    }
}

/* Then only what was requested may be written to. */
static bool has_canaries(void) {
    return option_value(OPTION_CANARIES) != 0;
}

static struct slot *find_slot(const void *block) {
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].block != NULL && slots[i].block == block)
            return &slots[i];
    return NULL;
}

static size_t filled(const struct slot *slot) {
    return min_size(slot->capacity, FILL_MAX);
}

/* The first `length` bytes of what was filled as `slot` says. */
static bool holds(const unsigned char *block, const struct slot *slot, size_t length) {
    for (size_t i = 0; i < min_size(length, filled(slot)); i = pattern_next(i, filled(slot)))
        if (block[i] != pattern_at(slot->tag, i))
            return false;
    return true;
}

static void enter(struct slot *slot, void *block, size_t size) {
    *slot = (struct slot){.block = block, .size = size, .capacity = cadastre_malloc_usable_size(block), .tag = ++tags};
    check(slot->capacity >= size, "%zu bytes: usable are %zu", size, slot->capacity);
    check(cadastre_malloc_size(block) == slot->capacity, "malloc_size says otherwise");
    pattern_write(block, filled(slot), slot->tag);
    live_bytes += size;
}

/* The slot is empty; what was in it is dead. */
static void leave(struct slot *slot) {
    dead[dead_next++ % DEAD] = slot->block;
    live_bytes -= slot->size;
    slot->block = NULL;
}

static void check_contents(const struct slot *slot) {
    check(holds(slot->block, slot, SIZE_MAX), "a block of %zu bytes at %p changed", slot->size, (void *)slot->block);
}

static void give(struct slot *slot) {
    if (slot->block == NULL)
        return;
    check_contents(slot);
    errno = UNTOUCHED;
    cadastre_free(slot->block);
    check(errno == UNTOUCHED, "free changed errno");
    leave(slot);
}

/* Whether the model has no room for so many bytes more; what no machine has is asked for. */
static bool is_too_much(size_t size) {
    return size < LARGE_MAX && size > LIVE_MAX - min_size(live_bytes, LIVE_MAX);
}

/* ---------------------------------------------------------------------------------------------------- taking */
static size_t refusals_before;

static void begin(void) {
    refusals_before = atomic_load(&kernel_refusals);
    errno = UNTOUCHED;
}

/* NULL is allowed where the kernel has refused meanwhile, or for what nobody could hold. */
static void end(struct slot *slot, void *block, size_t size, size_t alignment) {
    if (block == NULL) {
        check(errno == ENOMEM, "NULL with errno %d for %zu bytes", errno, size);
        check(size >= LARGE_MAX || alignment >= LARGE_MAX || atomic_load(&kernel_refusals) > refusals_before,
              "NULL for %zu bytes at a multiple of %zu, and the kernel has refused nothing", size, alignment);
        return;
    }
    check(errno == UNTOUCHED, "errno is %d after success", errno);
    check(size < LARGE_MAX, "%zu bytes cannot be had", size);
    check((uintptr_t)block % alignment == 0, "%p is no multiple of %zu", block, alignment);
    enter(slot, block, size);
}

static void do_malloc(struct slot *slot, const struct operation *op) {
    size_t size = size_of(op);
    begin();
    end(slot, cadastre_malloc(size), size, BLOCK_ALIGN);
    if (slot->block != NULL && size <= SMALL_MAX && !has_canaries())
        check(cadastre_malloc_good_size(size) == slot->capacity, "%zu is no good size", size);
}

static void do_calloc(struct slot *slot, const struct operation *op) {
    size_t count = 1 + op->slot / SLOTS, size = size_of(op), bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        bytes = SIZE_MAX;
    if (is_too_much(bytes))
        return;
    begin();
    unsigned char *block = cadastre_calloc(count, size);
    for (size_t i = 0; block != NULL && i < bytes; i++)
        check(block[i] == 0, "calloc(%zu, %zu) gave a byte that is not 0", count, size);
    end(slot, block, bytes, BLOCK_ALIGN);
}

static size_t alignment_of(const struct operation *op) {
    return (size_t)1 << (op->slot / 8 + op->slot % 3); /* to 8 GiB */
}

static void do_aligned_alloc(struct slot *slot, const struct operation *op) {
    size_t alignment = alignment_of(op);
    begin();
    end(slot, cadastre_aligned_alloc(alignment, size_of(op)), size_of(op), alignment);
    begin();
    check(cadastre_aligned_alloc(3 * alignment, 1) == NULL && errno == EINVAL, "an alignment of %zu", 3 * alignment);
}

static void do_memalign(struct slot *slot, const struct operation *op) {
    size_t alignment = 4 * alignment_of(op); /* to which three quarters of it are rounded up */
    begin();
    end(slot, cadastre_memalign(alignment / 4 * 3, size_of(op)), size_of(op), alignment);
}

static void do_posix_memalign(struct slot *slot, const struct operation *op) {
    size_t alignment = alignment_of(op);
    void *block = slot;
    begin();
    int error = cadastre_posix_memalign(&block, alignment, size_of(op));
    check(errno == UNTOUCHED, "posix_memalign changed errno");
    if (error != 0) {
        check(block == slot, "posix_memalign failed and changed its result");
        check(error == (alignment < sizeof(void *) ? EINVAL : ENOMEM), "posix_memalign gave %d", error);
        errno = ENOMEM;
        block = NULL;
    }
    if (error != EINVAL)
        end(slot, block, size_of(op), alignment);
}

static void do_valloc(struct slot *slot, const struct operation *op) {
    begin();
    end(slot, cadastre_valloc(size_of(op)), size_of(op), os_page_size());
}

static void do_pvalloc(struct slot *slot, const struct operation *op) {
    size_t size = size_of(op);
    begin();
    void *block = cadastre_pvalloc(size);
    if (size <= PTRDIFF_MAX)
        size = round_up(max_size(size, 1), os_page_size());
    end(slot, block, size, os_page_size());
}

/* -------------------------------------------------------------------------------------- resizing and giving */
static void resize(struct slot *slot, size_t size, void *(*call)(void *block, size_t size)) {
    struct slot old = *slot;
    if (is_too_much(size))
        return;
    if (old.block != NULL)
        check_contents(&old);
    begin();
    unsigned char *block = call(old.block, size);
    if (block == NULL && size == 0 && old.block != NULL) {
        check(errno == UNTOUCHED, "realloc to nothing changed errno");
        leave(slot);
        return;
    }
    if (block == NULL && old.block != NULL) {
        check(size > old.size, "realloc from %zu to %zu failed", old.size, size);
        check_contents(&old);
    }
    if (block != NULL && old.block != NULL) {
        size_t capacity = cadastre_malloc_usable_size(block);
        check(holds(block, &old, capacity), "realloc from %zu to %zu lost contents", old.size, size);
        if (block != old.block)
            leave(slot);
        else
            live_bytes -= old.size;
    }
    end(slot, block, size, BLOCK_ALIGN);
}

static void do_realloc(struct slot *slot, const struct operation *op) {
    resize(slot, size_of(op), cadastre_realloc);
}

static void *by_array(void *block, size_t size) {
    return cadastre_reallocarray(block, size, 1);
}

static void do_reallocarray(struct slot *slot, const struct operation *op) {
    resize(slot, size_of(op), by_array);
    begin();
    check(cadastre_reallocarray(slot->block, SIZE_MAX / 2, 3) == NULL && errno == ENOMEM, "a product that overflows");
}

/* A little more or less. */
static void do_adjust(struct slot *slot, const struct operation *op) {
    size_t size = slot->size + (op->low & 1 ? op->high : -min_size(slot->size, op->high));
    if (slot->block != NULL)
        resize(slot, size, cadastre_realloc);
}

static void do_free(struct slot *slot, const struct operation *op) {
    (void)op;
    give(slot);
}

/* Every slot from here on, in steps. */
static void do_free_many(struct slot *slot, const struct operation *op) {
    for (; slot < slots + SLOTS; slot += 1 + op->low % 4)
        give(slot);
}

static void do_free_sized(struct slot *slot, const struct operation *op) {
    size_t size = slot->size + op->low % (slot->capacity - slot->size + 1);
    if (slot->block == NULL)
        return;
    check_contents(slot);
    if (op->high % 2)
        cadastre_free_sized(slot->block, size);
    else
        cadastre_free_aligned_sized(slot->block, BLOCK_ALIGN, size);
    leave(slot);
}

/* ------------------------------------------------------------------------------------------------- in bursts */
static int by_address(const void *a, const void *b) {
    const unsigned char *const *x = a, *const *y = b;
    return (*x > *y) - (*x < *y);
}

static bool is_in_burst(const void *block) {
    return bsearch(&block, burst.blocks, burst.count, sizeof *burst.blocks, by_address) != NULL;
}

static void take_burst(size_t size, size_t count) {
    burst.size = size;
    for (size_t i = 0; i < count; i++) {
        begin();
        unsigned char *block = cadastre_malloc(size);
        if (block == NULL) {
            check(errno == ENOMEM && atomic_load(&kernel_refusals) > refusals_before, "NULL in a burst");
            break;
        }
        block[0] = block[size - 1] = (unsigned char)size;
        burst.blocks[burst.count++] = block;
    }
    live_bytes += burst.count * size;
    qsort(burst.blocks, burst.count, sizeof *burst.blocks, by_address);
}

/* From both ends in turn, or upwards. */
static void give_burst(bool from_ends) {
    for (size_t i = 0; i < burst.count; i++) {
        unsigned char *block = burst.blocks[from_ends && i % 2 != 0 ? burst.count - (i + 1) / 2
                                            : from_ends             ? i / 2
                                                                    : i];
        check(block[0] == (unsigned char)burst.size && block[burst.size - 1] == (unsigned char)burst.size,
              "a block of %zu bytes changed", burst.size);
        cadastre_free(block);
    }
    live_bytes -= burst.count * burst.size;
    burst.count = 0;
}

static void do_burst(struct slot *slot, const struct operation *op) {
    size_t size = 1 + min_size(size_of(op), SMALL_MAX - 1);
    (void)slot;
    if (burst.count > 0)
        give_burst(op->slot % 2);
    else
        take_burst(size, min_size(BURST, (LIVE_MAX - min_size(live_bytes, LIVE_MAX)) / size));
}

/* What is not the start of a live block: nothing may come of it. */
static void do_wrong(struct slot *slot, const struct operation *op) {
    char *pointer = dead[op->slot % DEAD];
    if (op->low % 4 == 0 && slot->block != NULL)
        pointer = (char *)slot->block + 1 + op->high * (op->low / 4) % max_size(slot->capacity, 1);
    if (op->low % 4 == 1)
        pointer = (char *)&pointer + op->high;
    if (pointer == NULL || find_slot(pointer) != NULL || is_in_burst(pointer))
        return;
    check(cadastre_malloc_size(pointer) == 0, "malloc_size(%p)", (void *)pointer);
    check(cadastre_malloc_usable_size(pointer) == 0, "malloc_usable_size(%p)", (void *)pointer);
    begin();
    check(cadastre_realloc(pointer, op->high) == NULL && errno == EINVAL, "realloc(%p)", (void *)pointer);
    begin();
    cadastre_free(pointer);
    check(errno == UNTOUCHED, "a wrong free changed errno");
}

/* -------------------------------------------------------------------------------------------------- looking */
static size_t walked;
static const char *walked_to;

static int visit(void *argument, const cadastre_block *block) {
    struct slot of_burst = {.size = burst.size, .capacity = has_canaries() ? burst.size : block->capacity};
    struct slot *slot = is_in_burst(block->address) ? &of_burst : find_slot(block->address);
    check(slot != NULL, "%p of %zu bytes is shown, and not live", block->address, block->size);
    check((char *)block->address >= walked_to, "%p lies within the block before it", block->address);
    check(block->size == slot->size, "%zu bytes are shown for %zu", block->size, slot->size);
    check(slot->capacity == (has_canaries() ? block->size : block->capacity), "capacity %zu", block->capacity);
    walked_to = (char *)block->address + block->capacity;
    walked++;
    return walked == (size_t)argument;
}

static size_t live_count(void) {
    size_t count = burst.count;
    for (size_t i = 0; i < SLOTS; i++)
        count += slots[i].block != NULL;
    return count;
}

/* To block number `last`, or all. */
static void walk_to(size_t last) {
    walked = 0;
    walked_to = NULL;
    int result = cadastre_walk(visit, (void *)last);
    size_t expected = last == 0 ? live_count() : min_size(last, live_count());
    check(walked == expected, "the walk came to %zu of %zu blocks", walked, expected);
    check(result == (last != 0 && last == walked), "the walk gave %d", result);
}

/* What the statistics need for themselves is not among them; it may be refused when it is to be unmapped. */
static void check_stats(void) {
    struct cadastre_stats stats;
    size_t before = atomic_load(&kernel_mapped);
    check(cadastre_stats(&stats, sizeof stats) == 0, "no statistics");
    const struct cadastre_memory *mapped = &stats.mapped;
    uint64_t sum = 0;
    for (const uint64_t *kind = &mapped->live; kind <= &mapped->other; kind++)
        sum += *kind;
    check(sum == mapped->total, "the kinds sum to %zu of %zu bytes", (size_t)sum, (size_t)mapped->total);
    check(mapped->live == live_bytes && stats.live_blocks == live_count(), "%zu bytes live in %zu blocks, not %zu",
          (size_t)mapped->live, (size_t)stats.live_blocks, live_bytes);
    check(before == mapped->total, "%zu bytes are mapped, and %zu known of", before, (size_t)mapped->total);
    check(mapped->other <= atomic_load(&kernel_stuck), "nothing is known of %zu bytes that are mapped",
          (size_t)mapped->other);
}

static void check_all(void) {
    check(cadastre_check() == 0, "the heap contradicts itself");
    walk_to(0);
    check_stats();
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].block != NULL)
            check_contents(&slots[i]);
}

static void do_walk(struct slot *slot, const struct operation *op) {
    (void)slot;
    walk_to(op->low);
}

static void do_show(struct slot *slot, const struct operation *op) {
    struct cadastre_show show = {.size = sizeof show,
                                 .fd = nowhere,
                                 .format = op->low & 1,
                                 .what = op->low >> 1 & 31,
                                 .categories = op->high & 7,
                                 .arenas = op->high >> 3 & 3,
                                 .size_min = op->high & 64 ? 100 : 0,
                                 .from = op->high & 128 ? slot->block : NULL,
                                 .to = op->low & 64 && slot->block != NULL ? slot->block + slot->capacity : NULL,
                                 .hexdump = op->low & 128 ? 40 : 0};
    check(show_alloc_mem_ex(&show) == 0, "show_alloc_mem_ex failed with errno %d", errno);
    if (op->slot % 8 == 0) {
        show_alloc_mem();
        check(show_alloc_mem_map(nowhere) == 0, "show_alloc_mem_map");
        check(cadastre_stats_print(nowhere, op->low & 1) == 0, "cadastre_stats_print");
        leaks_report();
    }
}

static void do_check(struct slot *slot, const struct operation *op) {
    (void)slot;
    (void)op;
    check_all();
}

/* ------------------------------------------------------------------------------------ settings and refusals */

/* What malloc_trim does, which the builds for sanitizers do not have; and mallopt. */
static void do_trim(struct slot *slot, const struct operation *op) {
    (void)slot;
    switch (op->low % 4) {
    case 0:
        process_drain();
        break;
    case 1:
        process_drain();
        arenas_purge_all();
        break;
    case 2:
        account_set_retained_min((size_t)op->high << 12);
        arenas_keep_contract();
        break;
    default:
        arenas_limit_joining(1 + op->high % ACTORS);
    }
}

static void do_option(struct slot *slot, const struct operation *op) {
    static const char *const settings[][2] = {
        {"PERTURB", "165"},  {"PERTURB", "0"},    {"SCRIBBLE", "0"},        {"CADASTRE_SCRIBBLE", "1"},
        {"CHECK_EACH", "7"}, {"CHECK_EACH", "0"}, {"RELEASE_AT_EXIT", "1"}, {"ABORT", "0"},
    };
    const char *const *setting = settings[op->low % 8];
    char value[16];
    (void)slot;
    begin();
    int result = cadastre_option_set(setting[0], setting[1]);
    check(result == 0 || (errno == EPERM && !process_debugs), "%s=%s: errno %d", setting[0], setting[1], errno);
    check(cadastre_option_get(setting[0], value, sizeof value) == 0, "no value of %s", setting[0]);
    check(result != 0 || strcmp(value, setting[1]) == 0, "%s is %s, not %s", setting[0], value, setting[1]);
}

/* Of the kinds that the slot names, some calls in a row are refused, or all from there on. */
static void do_refuse(struct slot *slot, const struct operation *op) {
    size_t first = 1 + op->low, count = op->high % 16;
    (void)slot;
    kernel_refuse(op->slot & KERNEL_ALL, first, count == 0 ? SIZE_MAX : first + count - 1);
}

static void do_give_again(struct slot *slot, const struct operation *op) {
    (void)slot;
    (void)op;
    kernel_give_again();
}

/* ------------------------------------------------------------------------------------------------ operations */
static const struct {
    void (*run)(struct slot *slot, const struct operation *op);
    bool takes; /* a block, for which the slot must be empty and the model have room */
} operations[] = {
    {do_malloc, true},        {do_calloc, true},         {do_realloc, false}, {do_free, false},
    {do_malloc, true},        {do_memalign, true},       {do_adjust, false},  {do_free_many, false},
    {do_aligned_alloc, true}, {do_posix_memalign, true}, {do_valloc, true},   {do_pvalloc, true},
    {do_reallocarray, false}, {do_free_sized, false},    {do_wrong, false},   {do_walk, false},
    {do_show, false},         {do_check, false},         {do_trim, false},    {do_option, false},
    {do_refuse, false},       {do_give_again, false},    {do_burst, false},
};

enum { OPERATIONS = sizeof operations / sizeof *operations, OP_ACTOR = OPERATIONS, OP_EXIT, CODES };

static void perform(const struct operation *op) {
    struct slot *slot = &slots[op->slot % SLOTS];
    unsigned code = op->code % CODES;
    if (operations[code].takes) {
        give(slot);
        if (is_too_much(size_of(op)))
            return;
    }
    operations[code].run(slot, op);
}

/* ---------------------------------------------------------------------------------------------------- actors
 * Number 0 is libFuzzer's thread; the others exist from their first turn on until they are sent home. */
static struct actor {
    pthread_t thread;
    sem_t go;
    bool is_there;
} actors[ACTORS];

static sem_t done;
static const struct operation *turn; /* NULL: go home */

/* libFuzzer's clock interrupts. */
static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0)
        continue;
}

static void *act(void *argument) {
    struct actor *actor = argument;
    for (;;) {
        wait_for(&actor->go);
        if (turn == NULL)
            return NULL;
        perform(turn);
        sem_post(&done);
    }
}

static void send_home(struct actor *actor) {
    if (!actor->is_there)
        return;
    turn = NULL;
    sem_post(&actor->go);
    pthread_join(actor->thread, NULL);
    sem_destroy(&actor->go);
    actor->is_there = false;
}

static void let_act(struct actor *actor, const struct operation *op) {
    if (actor == actors) {
        perform(op);
        return;
    }
    if (!actor->is_there) {
        sem_init(&actor->go, 0, 0);
        actor->is_there = pthread_create(&actor->thread, NULL, act, actor) == 0;
        check(actor->is_there, "no thread");
    }
    turn = op;
    sem_post(&actor->go);
    wait_for(&done);
}

/* ------------------------------------------------------------------------------------------------- the target */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(nowhere, STDOUT_FILENO); /* show_alloc_mem's; libFuzzer prints elsewhere */
    cadastre_option_set("LOG", "/dev/null");
    sem_init(&done, 0, 0);
    return 0;
}

/* Nothing of an input is left for the next, but for what the kernel would not take back. */
static void start_anew(void) {
    kernel_give_again();
    for (size_t i = 1; i < ACTORS; i++)
        send_home(&actors[i]);
    for (size_t i = 0; i < SLOTS; i++)
        give(&slots[i]);
    give_burst(false);
    cadastre_option_set("SCRIBBLE", "0");
    cadastre_option_set("PERTURB", "0");
    cadastre_option_set("CHECK_EACH", "0");
    account_set_retained_min(RETAINED_MIN);
    arenas_limit_joining(ARENAS_MAX);
    process_drain();
    arenas_purge_all();
    operations_done = 0;
    dead_next = 0;
    memset(dead, 0, sizeof dead);
    tags = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t actor = 0;
    for (; size >= sizeof(struct operation); size -= sizeof(struct operation), data += sizeof(struct operation)) {
        struct operation op = {data[0], data[1], data[2], data[3]};
        unsigned code = op.code % CODES;
        if (code == OP_ACTOR)
            actor = op.slot % ACTORS;
        else if (code == OP_EXIT)
            send_home(&actors[op.slot % ACTORS]);
        else
            let_act(&actors[actor], &op);
        if (++operations_done % CHECK_EACH == 0)
            check_all();
    }
    check_all();
    start_anew();
    check_all();
    return 0;
}
