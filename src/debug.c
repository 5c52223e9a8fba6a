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
#include "syscall.h"
#include <errno.h>
#include <string.h>

#define FILL_TAKEN  0xAA
#define FILL_GIVEN  0x55
#define FILL_CANARY 0xCA
#define CANARY_MIN  ((size_t)8) /* bytes behind every block, at the least */
#define CONTEXT_MAX 6000

static _Atomic size_t calls; /* for CADASTRE_CHECK_EACH */

/* ------------------------------------------------------------------------------------------- who and where */
static uint32_t current_thread(void) {
    return (uint32_t)syscall3(SYS_gettid, 0, 0, 0);
}

static uint32_t record_stack(const void *frame) {
    return stacks_record((unsigned)max_size(option_value(OPTION_STACKS), STACKS_DEPTH_MIN), frame);
}

static bool scribbles(void) {
    return option_value(OPTION_SCRIBBLE) != 0;
}

/* The period of scribbling; 0: it is off. It is read before the option: if both change, it is one that is over. */
static uint32_t scribble_period(void) {
    uint32_t period = load_acquire(&process_scribble_period);
    return scribbles() ? period : 0;
}

static struct ledger_entry entry_for(void *block, size_t size, size_t capacity, bool live, const void *frame) {
    return (struct ledger_entry){(uintptr_t)block, size, capacity, record_stack(frame), current_thread(), 0, live};
}

static void add_context(struct text *text, const struct ledger_entry *entry) {
    text_add(text, entry->live ? "cadastre:   taken by thread " : "cadastre:   given back by thread ");
    text_add_decimal(text, entry->thread);
    text_add(text, entry->stack != 0 ? ", at\n" : "\n");
    stacks_print(text, entry->stack, "cadastre:     ");
    while (text->buffer[text->length - 1] != '\n') /* cut: by the last line, or more */
        text->length--;
}

static void report_pointer(const char *call, const void *block) {
    char more[CONTEXT_MAX];
    struct text text = {more, 0, sizeof more - 1, -1};
    struct ledger_entry entry;
    if (ledger_find((uintptr_t)block, &entry))
        add_context(&text, &entry);
    more[text.length] = '\0';
    misuse_report_pointer(call, block, more);
}

/* A byte that is not what it was set to, and what it is. */
static void report_byte(const char *call, const char *what, const struct ledger_entry *entry, size_t offset,
                        uint8_t byte) {
    char more[CONTEXT_MAX];
    struct text text = {more, 0, sizeof more - 1, -1};
    add_context(&text, entry);
    more[text.length] = '\0';
    misuse_report_byte(call, what, (const void *)entry->address, entry->size, offset, byte, more);
}

/* ----------------------------------------------------------------------------------------------- contents */

/* The first byte in [from, to) that is not `expected`; `to`: all are. */
static size_t find_other(const uint8_t *bytes, size_t from, size_t to, uint8_t expected) {
    while (from < to && bytes[from] == expected)
        from++;
    return from;
}

static void write_canary(uint8_t *block, size_t size, size_t capacity) {
    if (option_value(OPTION_CANARIES) != 0)
        memset(block + size, FILL_CANARY, capacity - size);
}

/* The first byte behind the block that was overwritten; its capacity: none was. */
static size_t find_overrun(const struct ledger_entry *entry) {
    if (option_value(OPTION_CANARIES) == 0)
        return entry->capacity;
    return find_other((const uint8_t *)entry->address, entry->size, entry->capacity, FILL_CANARY);
}

static void report_overrun(const char *call, const struct ledger_entry *entry, size_t at, uint8_t byte) {
    report_byte(call, "written past the end of the block", entry, at, byte);
}

static void check_canary(const char *call, const struct ledger_entry *entry) {
    size_t at = find_overrun(entry);
    if (at < entry->capacity)
        report_overrun(call, entry, at, ((const uint8_t *)entry->address)[at]);
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
    for (size_t at = 0; at < capacity; at += BLOCK_ALIGN) {
        size_t end = min_size(capacity, at + BLOCK_ALIGN);
        size_t other = find_other(bytes, at, end, FILL_GIVEN);
        if (other < end && !(may_be_zero && find_other(bytes, at, end, 0) == end))
            return other;
    }
    return capacity;
}

static void check_given(const char *call, void *block, size_t capacity, bool may_be_zero) {
    const uint8_t *bytes = block;
    struct ledger_entry entry;
    if (!ledger_find((uintptr_t)block, &entry) || entry.filled == 0 ||
        entry.filled != load_acquire(&process_scribble_period))
        return;
    capacity = min_size(capacity, entry.capacity);
    size_t at = find_written(bytes, capacity, may_be_zero);
    if (at < capacity) {
        report_byte(call, "written after it was freed", &entry, at, bytes[at]);
        memset(block, FILL_GIVEN, capacity); /* once is enough */
    }
}

/* ------------------------------------------------------------------------------------------------- giving back */
static unsigned arena_of(const void *block) {
    const struct slab_line *line = directory_find((uintptr_t)block);
    return load_relaxed(&line->reciprocal) == 0 ? ARENA_NONE : slab_arena(line);
}

/* A block that is not live any more goes back for good. */
static void release(void *block, size_t capacity) {
    check_given("quarantine", block, capacity, false);
    if (!scribbles() && option_value(OPTION_STACKS) == 0)
        ledger_forget_freed((uintptr_t)block);
    if (arena_of(block) != ARENA_NONE)
        tcache_return(block);
    else if (large_give_held(block))
        arenas_keep_contract();
}

static void keep_a_while(void *block, size_t capacity) {
    struct quarantined oldest;
    while (!quarantine_put((struct quarantined){block, capacity}) && quarantine_take(&oldest))
        release(oldest.block, oldest.capacity);
}

/* From here on the block is not live, and this thread's alone. false: another thread was faster. */
static bool end_life(void *block) {
    struct slab_line *line;
    state_byte *state;
    if (!slab_find_live((uintptr_t)block, &line, &state))
        return large_hold(block);
    return atomic_exchange_explicit(state, STATE_USED, memory_order_relaxed) >= STATE_LIVE;
}

static void check_each(void) {
    size_t each = option_value(OPTION_CHECK_EACH);
    if (each != 0 && (add_relaxed(&calls, 1) + 1) % each == 0)
        cadastre_check();
}

void debug_give(const char *call, void *block, const void *frame) {
    struct ledger_entry entry;
    check_each();
    bool known = ledger_take_live((uintptr_t)block, &entry);
    if (!known && !request_describe(block, &entry.size, &entry.capacity)) {
        report_pointer(call, block);
        return;
    }
    if (known)
        check_canary(call, &entry);
    unsigned arena = arena_of(block);
    if (!end_life(block)) {
        report_pointer(call, block);
        return;
    }
    history_add(HISTORY_GIVE, (uintptr_t)block, entry.size, (uint16_t)arena, current_thread());
    uint32_t period = scribble_period();
    fill_given(block, entry.capacity, period != 0);
    struct ledger_entry freed = entry_for(block, entry.size, entry.capacity, false, frame);
    freed.filled = period;
    ledger_put(freed);
    if (quarantine_admits(entry.capacity))
        keep_a_while(block, entry.capacity);
    else
        release(block, entry.capacity);
}

/* --------------------------------------------------------------------------------------------------- taking */
static void *take(size_t size, size_t alignment, bool *zeroed) {
    size_t room = size + (option_value(OPTION_CANARIES) != 0 ? CANARY_MIN : 0);
    if (room > SMALL_MAX || alignment >= UNIT_SIZE)
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

void *debug_take(size_t size, size_t alignment, bool zero, const void *frame) {
    bool zeroed;
    size_t capacity = 0;
    int saved = errno;
    check_each();
    void *block = size > PTRDIFF_MAX ? NULL : take(size, alignment, &zeroed);
    if (block == NULL && size < LARGE_MAX && debug_drain()) {
        errno = saved;
        block = take(size, alignment, &zeroed);
    }
    if (block == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    request_describe(block, &size, &capacity);
    if (!zeroed)
        check_given("malloc", block, capacity, true);
    if (!zero)
        fill_taken(block, debug_usable(size, capacity));
    else if (!zeroed)
        memset(block, 0, size);
    write_canary(block, size, capacity);
    ledger_put(entry_for(block, size, capacity, true, frame));
    history_add(HISTORY_TAKE, (uintptr_t)block, size, (uint16_t)arena_of(block), current_thread());
    return block;
}

/* ------------------------------------------------------------------------------------------------- resizing */
static void *resize_in_place(void *block, size_t size, struct ledger_entry *entry, const void *frame) {
    struct slab_line *line;
    state_byte *state;
    if (slab_find_live((uintptr_t)block, &line, &state))
        slab_set_size(line, state, size);
    else
        large_set_size(block, size);
    write_canary(block, size, entry->capacity);
    ledger_put(entry_for(block, size, entry->capacity, true, frame));
    return block;
}

/* Always to another address, where there is one: what still uses the old one is found out. */
void *debug_resize(void *block, size_t size, const void *frame) {
    struct ledger_entry entry = {.live = true};
    int saved = errno;
    bool known = ledger_find((uintptr_t)block, &entry) && entry.live;
    if (!known && !request_describe(block, &entry.size, &entry.capacity)) {
        report_pointer("realloc", block);
        errno = EINVAL;
        return NULL;
    }
    if (known) {
        check_canary("realloc", &entry);
        write_canary(block, entry.size, entry.capacity); /* once is enough */
    }
    if (size == 0) {
        debug_give("realloc", block, frame);
        return NULL;
    }
    void *moved = debug_take(size, 1, false, frame);
    if (moved != NULL) {
        size_t capacity = 0;
        request_describe(moved, &size, &capacity);
        memcpy(moved, block, min_size(debug_usable(entry.size, entry.capacity), debug_usable(size, capacity)));
        debug_give("realloc", block, frame);
        return moved;
    }
    if (size > entry.size)
        return NULL;
    errno = saved; /* a smaller size never fails */
    return resize_in_place(block, size, &entry, frame);
}

/* ------------------------------------------------------------------------------------------------- checking */
#define FAULTS_MAX 16

struct overruns {
    size_t found;
    struct overrun {
        struct ledger_entry entry;
        size_t at;
        uint8_t byte;
    } list[FAULTS_MAX];
};

static void check_entry(void *argument, const struct ledger_entry *entry) {
    struct overruns *overruns = argument;
    size_t at = find_overrun(entry);
    if (at < entry->capacity && overruns->found++ < FAULTS_MAX)
        overruns->list[overruns->found - 1] = (struct overrun){*entry, at, ((const uint8_t *)entry->address)[at]};
}

static void report_structure(const char *what, unsigned arena) {
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

PUBLIC int cadastre_check(void) {
    struct overruns overruns = {0};
    int faults = 0;
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
    ledger_visit_live(check_entry, &overruns);
    for (size_t i = 0; i < min_size(overruns.found, FAULTS_MAX); i++)
        report_overrun("cadastre_check", &overruns.list[i].entry, overruns.list[i].at, overruns.list[i].byte);
    return (int)min_size((size_t)faults + overruns.found, INT32_MAX);
}
