#include "debug.h"
#include "arenas.h"
#include "cadastre.h"
#include "history.h"
#include "large.h"
#include "ledger.h"
#include "message.h"
#include "misuse.h"
#include "options.h"
#include "process.h"
#include "quarantine.h"
#include "request.h"
#include "sizeclass.h"
#include "stacks.h"
#include <errno.h>
#include <string.h>

#define FILL_TAKEN  0xAA
#define FILL_GIVEN  0x55
#define FILL_CANARY 0xCA
#define CANARY_MIN  ((size_t)8) /* bytes behind every block, at the least */
#define CANARY_NEAR (4 * KIB)   /* of which so many are looked at when a block is resized where it is */

static _Atomic size_t calls; /* for CADASTRE_CHECK_EACH */

/* ------------------------------------------------------------------------------------------- who and where */
/* Of a call that is reported. */
static uint32_t record_caller(const void *frame) {
    return stacks_record((unsigned)max_size(process_stack_depth, STACKS_DEPTH_MIN), frame);
}

static bool scribbles(void) {
    return option_value(OPTION_SCRIBBLE) != 0;
}

/* The period of scribbling; 0: it is off. It is read before the option: if both change, it is one that is over. */
static uint32_t scribble_period(void) {
    uint32_t period = load_acquire(&process_scribble_period);
    return scribbles() ? period : 0;
}

static struct ledger_entry entry_for(void *block, size_t size, size_t capacity, unsigned arena, bool live,
                                     const void *frame) {
    return (struct ledger_entry){.address = (uintptr_t)block,
                                 .size = size,
                                 .capacity = capacity,
                                 .stack = stacks_record(process_stack_depth, frame),
                                 .thread = process_thread(),
                                 .arena = (uint16_t)arena,
                                 .live = live};
}

/* What is known besides the fault itself. */
struct context {
    bool is_caller_to_blame; /* or it only found the fault */
    uint32_t caller;         /* its stack: recorded before the report, which needs a buffer where that needs others */
    const struct ledger_entry *entry; /* NULL: there is none */
};

/* `frame` as debug_take has it; NULL: the caller only found it. */
static struct context context_of(const void *frame, const struct ledger_entry *entry) {
    bool is_to_blame = process_debugs && frame != NULL;
    return (struct context){is_to_blame, is_to_blame ? record_caller(frame) : 0, entry};
}

static void add_who(struct text *text, const char *what, uint32_t thread, uint32_t stack) {
    text_add(text, what);
    text_add_decimal(text, thread);
    text_add(text, stack != 0 ? ", at\n" : "\n");
    stacks_print(text, stack, "cadastre:     ");
}

static void add_context(struct text *text, const void *argument) {
    const struct context *context = argument;
    const struct ledger_entry *entry = context->entry;
    if (context->is_caller_to_blame)
        add_who(text, "cadastre:   called by thread ", process_thread(), context->caller);
    if (entry != NULL)
        add_who(text, entry->live ? "cadastre:   taken by thread " : "cadastre:   given back by thread ", entry->thread,
                entry->stack);
    stacks_print_missing(text, "cadastre:   ");
}

/* Where the block around an address begins; or the address. */
static uintptr_t start_of(uintptr_t address) {
    const struct slab_line *line = directory_find(address);
    struct large_view view;
    if (load_relaxed(&line->reciprocal) == 0)
        return large_find(address, &view) ? view.start : address;
    return address - (address & (UNIT_SIZE - 1)) % slab_block_size(line);
}

void debug_report_pointer(const char *call, const void *block, const void *frame) {
    uintptr_t address = (uintptr_t)block;
    struct ledger_entry entry;
    bool known = process_debugs && (ledger_find(address, &entry) || ledger_find(start_of(address), &entry));
    const struct context context = context_of(frame, known ? &entry : NULL);
    const struct message_more more = {add_context, &context};
    if (known && entry.address == address && !entry.live)
        misuse_report_freed(call, block, entry.size, entry.arena, &more);
    else
        misuse_report_pointer(call, block, process_debugs ? &more : NULL);
}

void debug_report_given(const char *call, const void *block, const char *what, size_t given, size_t size,
                        size_t capacity, const void *frame) {
    struct ledger_entry entry;
    bool known = process_debugs && ledger_find((uintptr_t)block, &entry);
    const struct context context = context_of(frame, known ? &entry : NULL);
    const struct message_more more = {add_context, &context};
    misuse_report_given(call, block, what, given, size, capacity, process_debugs ? &more : NULL);
}

/* A byte that is not what it was set to, and what it is. */
static void report_byte(const char *call, const char *what, const struct ledger_entry *entry, size_t offset,
                        uint8_t byte, const void *frame) {
    const struct context context = context_of(frame, entry->thread != 0 ? entry : NULL);
    const struct message_more more = {add_context, &context};
    misuse_report_byte(call, what, (const void *)entry->address, entry->size, entry->arena, offset, byte, &more);
}

/* ----------------------------------------------------------------------------------------------- contents */

static uint64_t word_at(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* The first byte in [from, to) that is not `expected`; `to`: all are. */
static size_t find_other(const uint8_t *bytes, size_t from, size_t to, uint8_t expected) {
    const uint64_t word = expected * UINT64_C(0x0101010101010101);
    const size_t step = sizeof word;
    while (to - from >= 4 * step &&
           ((word_at(bytes + from) ^ word) | (word_at(bytes + from + step) ^ word) |
            (word_at(bytes + from + 2 * step) ^ word) | (word_at(bytes + from + 3 * step) ^ word)) == 0)
        from += 4 * step;
    while (to - from >= step && word_at(bytes + from) == word)
        from += step;
    while (from < to && bytes[from] == expected)
        from++;
    return from;
}

/* Of what is asked for beyond the block. */
static size_t canary_room(void) {
    return option_value(OPTION_CANARIES) != 0 ? CANARY_MIN : 0;
}

static void write_canary(uint8_t *block, size_t from, size_t to) {
    if (option_value(OPTION_CANARIES) != 0 && from < to)
        memset(block + from, FILL_CANARY, to - from);
}

/* The first byte behind the block that was overwritten; its capacity: none was. */
static size_t find_overrun(const struct ledger_entry *entry) {
    if (option_value(OPTION_CANARIES) == 0)
        return entry->capacity;
    return find_other((const uint8_t *)entry->address, entry->size, entry->capacity, FILL_CANARY);
}

static void report_overrun(const char *call, const struct ledger_entry *entry, size_t at, uint8_t byte,
                           const void *frame) {
    report_byte(call, "written past the end of the block", entry, at, byte, frame);
}

static void check_canary(const char *call, const struct ledger_entry *entry, const void *frame) {
    size_t at = find_overrun(entry);
    if (at < entry->capacity)
        report_overrun(call, entry, at, ((const uint8_t *)entry->address)[at], frame);
}

static void fill_taken(uint8_t *block, size_t size) {
    uint8_t perturb = (uint8_t)option_value(OPTION_PERTURB);
    if (scribbles())
        memset(block, FILL_TAKEN, size);
    else if (perturb != 0) /* as glibc */
        memset(block, perturb ^ 0xff, size);
}

static void fill_given(uint8_t *block, size_t size, bool scribble) {
    uint8_t perturb = (uint8_t)option_value(OPTION_PERTURB);
    if (scribble)
        memset(block, FILL_GIVEN, size);
    else if (perturb != 0)
        memset(block, perturb, size);
}

/* The first byte that is not as fill_given left it. Since then the kernel may have had the page, and blocks of other
 * classes the place: so whole pieces of what blocks are multiples of may be zero. */
static size_t find_written(const uint8_t *bytes, size_t capacity, bool may_be_zero) {
    size_t at = 0;
    for (;;) {
        size_t other = find_other(bytes, at, capacity, FILL_GIVEN);
        size_t piece = round_down(other, BLOCK_ALIGN);
        size_t piece_end = min_size(capacity, piece + BLOCK_ALIGN);
        if (other == capacity || !may_be_zero || find_other(bytes, piece, piece_end, 0) < piece_end)
            return other;
        at = find_other(bytes, piece_end, capacity, 0);
        at = at == capacity ? at : round_down(at, BLOCK_ALIGN);
    }
}

/* Whether fill_given left a mark in the block that is still to be there. */
static bool is_marked(const struct ledger_entry *entry) {
    return entry->filled != 0 && entry->filled == load_acquire(&process_scribble_period);
}

static void check_given(const char *call, void *block, size_t capacity, bool may_be_zero) {
    const uint8_t *bytes = block;
    struct ledger_entry entry;
    if (!scribbles() || !ledger_find((uintptr_t)block, &entry) || !is_marked(&entry))
        return;
    capacity = min_size(capacity, entry.capacity);
    size_t at = find_written(bytes, capacity, may_be_zero);
    if (at < capacity) {
        report_byte(call, "written after it was freed", &entry, at, bytes[at], NULL);
        memset(block, FILL_GIVEN, capacity); /* once is enough */
    }
}

/* The same of memory that nobody had since the kernel gave it, zero: it may have been another's before that, whose
 * blocks began elsewhere. LARGE ones, which may be huge, are looked at if they were freed at the same address. */
static void check_untouched(void *block, size_t size, size_t capacity) {
    const uint8_t *bytes = block;
    unsigned arena = slab_arena_at((uintptr_t)block);
    struct ledger_entry entry;
    if (!scribbles())
        return;
    bool is_known = ledger_find((uintptr_t)block, &entry) && is_marked(&entry);
    if (!is_known && arena == ARENA_NONE)
        return;
    if (!is_known)
        entry = (struct ledger_entry){
            .address = (uintptr_t)block, .size = size, .capacity = capacity, .arena = (uint16_t)arena};
    capacity = min_size(capacity, entry.capacity);
    size_t at = find_other(bytes, 0, capacity, 0);
    if (at < capacity) {
        report_byte("malloc", is_known ? "written after it was freed" : "written while it was free", &entry, at,
                    bytes[at], NULL);
        memset(block, 0, capacity);
    }
}

/* ------------------------------------------------------------------------------------------------- checking */
#define FAULTS_MAX 16

struct overruns {
    bool only_new; /* not what an earlier check has found */
    size_t found;
    struct overrun { /* of the entry, what the report tells: the list is on the stack of a malloc */
        uintptr_t address;
        size_t size;
        size_t at;
        uint32_t stack;
        uint32_t thread;
        uint16_t arena;
        uint8_t byte;
    } list[FAULTS_MAX];
};

static void check_entry(void *argument, struct ledger_entry *entry) {
    struct overruns *overruns = argument;
    size_t at = find_overrun(entry);
    if (at == entry->capacity || (entry->is_told && overruns->only_new))
        return;
    entry->is_told = true;
    if (overruns->found++ < FAULTS_MAX)
        overruns->list[overruns->found - 1] = (struct overrun){.address = entry->address,
                                                               .size = entry->size,
                                                               .at = at,
                                                               .stack = entry->stack,
                                                               .thread = entry->thread,
                                                               .arena = entry->arena,
                                                               .byte = ((const uint8_t *)entry->address)[at]};
}

static NOINLINE void report_structure(const char *what, unsigned arena) {
    char line[120];
    struct text text = {line, 0, sizeof line - 1, -1};
    text_add(&text, what);
    if (arena != ARENA_NONE) {
        text_add(&text, ", arena ");
        text_add_decimal(&text, arena);
    }
    line[text.length] = '\0';
    message_print(line);
}

/* Apart, so that little else is below the list. */
static NOINLINE size_t check_canaries(bool only_new) {
    struct overruns overruns = {.only_new = only_new};
    ledger_visit_live(check_entry, &overruns);
    for (size_t i = 0; i < min_size(overruns.found, FAULTS_MAX); i++) {
        const struct overrun *overrun = &overruns.list[i];
        const struct ledger_entry entry = {.address = overrun->address,
                                           .size = overrun->size,
                                           .stack = overrun->stack,
                                           .thread = overrun->thread,
                                           .arena = overrun->arena,
                                           .live = true};
        report_overrun("cadastre_check", &entry, overrun->at, overrun->byte, NULL);
    }
    return overruns.found;
}

static int check(bool only_new) {
    size_t faults = 0;
    if (misuse_is_inside_malloc("cadastre_check"))
        return 0;
    process_enter();
    for (unsigned i = 0; i < arenas_count(); i++) {
        if (!arena_is_valid(arenas_at(i))) {
            report_structure("check: the zones and slabs contradict each other", i);
            faults++;
        }
    }
    if (!large_is_valid()) {
        report_structure("check: the tree of LARGE mappings is broken", ARENA_NONE);
        faults++;
    }
    return (int)min_size(faults + check_canaries(only_new), INT32_MAX);
}

PUBLIC int cadastre_check(void) {
    return check(false);
}

/* Of a fault that stays it tells once, or no other report would be seen for it. */
static void check_each(void) {
    size_t each = option_value(OPTION_CHECK_EACH);
    if (each != 0 && (add_relaxed(&calls, 1) + 1) % each == 0)
        check(true);
}

/* ------------------------------------------------------------------------------------------------- giving back */
/* A block that is not live any more goes back for good. */
static void release(void *block, size_t capacity) {
    check_given("quarantine", block, capacity, false);
    if (slab_arena_at((uintptr_t)block) != ARENA_NONE)
        tcache_return(block);
    else if (large_give_held(block))
        arenas_keep_contract();
}

static void keep_a_while(void *block, size_t capacity) {
    struct quarantined oldest;
    bool is_in;
    do {
        is_in = quarantine_put((struct quarantined){block, capacity}, &oldest);
        if (oldest.block != NULL)
            release(oldest.block, oldest.capacity);
    } while (!is_in);
}

/* From here on the block is not live, and this thread's alone. false: another thread was faster. */
static bool end_life(void *block) {
    struct slab_line *line;
    state_byte *state;
    if (!slab_find_live((uintptr_t)block, &line, &state))
        return large_hold(block);
    return atomic_exchange_explicit(state, STATE_USED, memory_order_relaxed) >= STATE_LIVE;
}

/* checked: what follows the block has been looked at in this call. */
static void give(const char *call, void *block, bool checked, const void *frame) {
    unsigned arena = slab_arena_at((uintptr_t)block);
    uint32_t period = scribble_period();
    struct ledger_entry entry;
    check_each();
    struct ledger_entry freed = entry_for(block, 0, 0, arena, false, frame);
    freed.filled = period;
    bool known = ledger_end_life(&freed, &entry);
    if (!known && !request_describe(block, &entry.size, &entry.capacity)) {
        debug_report_pointer(call, block, frame);
        return;
    }
    if (known && !checked)
        check_canary(call, &entry, frame);
    if (!end_life(block)) {
        debug_report_pointer(call, block, frame);
        return;
    }
    history_add(HISTORY_GIVE, freed.address, entry.size, freed.arena, freed.thread);
    fill_given(block, entry.capacity, period != 0);
    if (!known) {
        freed.size = entry.size;
        freed.capacity = entry.capacity;
        ledger_put(freed);
    }
    if (quarantine_admits(entry.capacity))
        keep_a_while(block, entry.capacity);
    else
        release(block, entry.capacity);
    arenas_sweep_ledger();
}

void debug_give(const char *call, void *block, const void *frame) {
    give(call, block, false, frame);
}

/* --------------------------------------------------------------------------------------------------- taking */
/* What realloc takes once may have to grow again: LARGE blocks get room for that, an eighth. Guarded ones have it. */
static void *take_ample(size_t size, size_t room, bool *zeroed) {
    int saved = errno;
    void *block = request_large(size, room + room / 8, 1, zeroed);
    if (block != NULL)
        return block;
    errno = saved;
    return request_large(size, room, 1, zeroed);
}

static void *take(size_t size, size_t alignment, bool is_moved, bool *zeroed) {
    size_t room = size + canary_room();
    if (room > SMALL_MAX && is_moved && option_value(OPTION_GUARD) != GUARD_EDGES)
        return take_ample(size, room, zeroed);
    if (!sizeclass_can_align(size, room, alignment))
        return request_large(size, room, alignment, zeroed);
    unsigned class = alignment <= BLOCK_ALIGN ? sizeclass_of(room) : sizeclass_of_aligned(room, alignment);
    return request_block(class, size, zeroed);
}

size_t debug_usable(size_t size, size_t capacity) {
    return option_value(OPTION_CANARIES) != 0 ? size : capacity;
}

bool debug_drain(void) {
    struct quarantined oldest;
    bool any = false;
    for (; quarantine_take(&oldest); any = true)
        release(oldest.block, oldest.capacity);
    return any;
}

static void *take_for(size_t size, size_t alignment, bool zero, bool is_moved, const void *frame) {
    bool zeroed;
    size_t capacity = 0;
    int saved = errno;
    check_each();
    void *block = size > PTRDIFF_MAX ? NULL : take(size, alignment, is_moved, &zeroed);
    if (block == NULL && size < LARGE_MAX && debug_drain()) {
        errno = saved;
        block = take(size, alignment, is_moved, &zeroed);
    }
    if (block == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    request_describe(block, &size, &capacity);
    if (zeroed)
        check_untouched(block, size, capacity);
    else
        check_given("malloc", block, capacity, true);
    if (!zero)
        fill_taken(block, debug_usable(size, capacity));
    else if (!zeroed)
        memset(block, 0, debug_usable(size, capacity));
    write_canary(block, size, capacity);
    unsigned arena = slab_arena_at((uintptr_t)block);
    struct ledger_entry taken = entry_for(block, size, capacity, arena, true, frame);
    taken.is_moved = is_moved;
    ledger_put(taken);
    history_add(HISTORY_TAKE, taken.address, size, taken.arena, taken.thread);
    arenas_sweep_ledger();
    return block;
}

void *debug_take(size_t size, size_t alignment, bool zero, const void *frame) {
    return take_for(size, alignment, zero, false, frame);
}

/* ------------------------------------------------------------------------------------------------- resizing */

/* What was not the block's and is now, and the other way round. Without canaries it is the program's all the same. */
static void refill(uint8_t *block, size_t size, size_t capacity, const struct ledger_entry *before) {
    if (option_value(OPTION_CANARIES) == 0)
        return;
    if (size > before->size)
        fill_taken(block + before->size, size - before->size);
    write_canary(block, size, before->size);
    write_canary(block, max_size(size, before->capacity), capacity);
}

/* What stands in the ledger as live may be looked at by another thread: out of it, while canaries are written. */
static void *resize_in_place(void *block, size_t size, struct ledger_entry *entry, const void *frame) {
    struct slab_line *line;
    state_byte *state;
    size_t capacity = entry->capacity;
    ledger_take_live((uintptr_t)block, entry);
    if (slab_find_live((uintptr_t)block, &line, &state))
        slab_set_size(line, state, size);
    else
        large_set_size(block, size);
    request_describe(block, &size, &capacity);
    refill(block, size, capacity, entry);
    struct ledger_entry resized = entry_for(block, size, capacity, slab_arena_at((uintptr_t)block), true, frame);
    resized.is_moved = entry->is_moved;
    history_add(HISTORY_GIVE, resized.address, entry->size, resized.arena, resized.thread);
    ledger_put(resized);
    history_add(HISTORY_TAKE, resized.address, size, resized.arena, resized.thread);
    return block;
}

/* A LARGE block that realloc has moved before, and that still has room, or would not leave half of it, stays: or what
 * grows in steps would be copied, and filled, as often. */
static bool may_stay(void *block, size_t size, const struct ledger_entry *entry) {
    return entry->is_moved && entry->arena == ARENA_NONE && size > SMALL_MAX && size <= PTRDIFF_MAX &&
           size >= entry->capacity / 2 && large_extend(block, size + canary_room());
}

/* The part of the canary that becomes the block's, and a bit more: the rest is looked at when it is its turn. */
static void check_canary_near(const struct ledger_entry *entry, size_t size, const void *frame) {
    struct ledger_entry near = *entry;
    near.capacity = min_size(entry->capacity, max_size(size, entry->size) + CANARY_NEAR);
    check_canary("realloc", &near, frame);
}

static void *move(void *block, size_t size, const struct ledger_entry *entry, bool checked, const void *frame) {
    size_t capacity = 0;
    void *moved = take_for(size, 1, false, true, frame);
    if (moved == NULL)
        return NULL;
    request_describe(moved, &size, &capacity);
    memcpy(moved, block, min_size(debug_usable(entry->size, entry->capacity), debug_usable(size, capacity)));
    give("realloc", block, checked, frame);
    return moved;
}

/* To another address, if there is one and the block has not just been moved: what still uses the old one is found
 * out. */
void *debug_resize(void *block, size_t size, const void *frame) {
    struct ledger_entry entry = {.live = true};
    int saved = errno;
    bool known = ledger_find((uintptr_t)block, &entry) && entry.live;
    if (!known && !request_describe(block, &entry.size, &entry.capacity)) {
        debug_report_pointer("realloc", block, frame);
        errno = EINVAL;
        return NULL;
    }
    if (known && may_stay(block, size, &entry)) {
        check_canary_near(&entry, size, frame);
        return resize_in_place(block, size, &entry, frame);
    }
    if (known)
        check_canary("realloc", &entry, frame);
    if (size == 0) {
        give("realloc", block, known, frame);
        return NULL;
    }
    void *moved = move(block, size, &entry, known, frame);
    if (moved != NULL || size > entry.size)
        return moved;
    errno = saved; /* a smaller size never fails */
    return resize_in_place(block, size, &entry, frame);
}
