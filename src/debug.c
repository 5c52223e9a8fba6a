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
#define DEPTH_MIN   4 /* frames, when no depth is asked for: to see past our operator new and a string's constructor */
#define CONTEXT_MAX 6000

static _Atomic size_t calls; /* for CADASTRE_CHECK_EACH */

/* ------------------------------------------------------------------------------------------- who and where */
static uint32_t current_thread(void) {
    return (uint32_t)syscall3(SYS_gettid, 0, 0, 0);
}

static uint32_t record_stack(const void *frame) {
    return stacks_record((unsigned)max_size(option_value(OPTION_STACKS), DEPTH_MIN), frame);
}

static bool scribbles(void) {
    return option_value(OPTION_SCRIBBLE) != 0;
}

static struct ledger_entry entry_for(void *block, size_t size, size_t capacity, bool live, const void *frame) {
    return (struct ledger_entry){(uintptr_t)block,    size, capacity, record_stack(frame), current_thread(), live,
                                 !live && scribbles()};
}

static void add_context(struct text *text, const struct ledger_entry *entry) {
    text_add(text, entry->live ? "cadastre:   taken by thread " : "cadastre:   given back by thread ");
    text_add_decimal(text, entry->thread);
    text_add(text, entry->stack != 0 ? ", at\n" : "\n");
    stacks_print(text, entry->stack, "cadastre:     ");
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

/* A byte that is not what it was set to. */
static void report_byte(const char *call, const char *what, const struct ledger_entry *entry, size_t offset) {
    char more[CONTEXT_MAX];
    struct text text = {more, 0, sizeof more - 1, -1};
    add_context(&text, entry);
    more[text.length] = '\0';
    misuse_report_byte(call, what, (const void *)entry->address, entry->size, offset, more);
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

static void check_canary(const char *call, const struct ledger_entry *entry) {
    size_t at = find_overrun(entry);
    if (at < entry->capacity)
        report_byte(call, "written past the end of the block", entry, at);
}

static void fill_taken(uint8_t *block, size_t size) {
    uint8_t perturb = (uint8_t)option_value(OPTION_PERTURB);
    if (scribbles())
        memset(block, FILL_TAKEN, size);
    else if (perturb != 0) /* as glibc */
        memset(block, perturb ^ 0xff, size);
}

static void fill_given(uint8_t *block, size_t size) {
    uint8_t perturb = (uint8_t)option_value(OPTION_PERTURB);
    if (scribbles())
        memset(block, FILL_GIVEN, size);
    else if (perturb != 0)
        memset(block, perturb, size);
}

/* A freed block must be as fill_given left it, or zero where the kernel has had the page since. */
static void check_given(const char *call, void *block, size_t capacity, bool may_be_zero) {
    const uint8_t *bytes = block;
    struct ledger_entry entry;
    size_t at = 0;
    if (!ledger_find((uintptr_t)block, &entry) || !entry.filled)
        return;
    capacity = min_size(capacity, entry.capacity);
    while ((at = find_other(bytes, at, capacity, FILL_GIVEN)) < capacity && may_be_zero && bytes[at] == 0)
        at++;
    if (at < capacity) {
        report_byte(call, "written after it was freed", &entry, at);
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
    if (!scribbles())
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

/* From here on the block is not live, and this thread's alone. */
static bool end_life(void *block) {
    struct slab_line *line;
    state_byte *state;
    if (!slab_find_live((uintptr_t)block, &line, &state))
        return large_hold(block);
    store_relaxed(state, STATE_USED);
    return true;
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
    history_add(HISTORY_GIVE, (uintptr_t)block, entry.size, (uint16_t)arena_of(block), current_thread());
    fill_given(block, entry.capacity);
    ledger_put(entry_for(block, entry.size, entry.capacity, false, frame));
    if (!end_life(block))
        return;
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

void *debug_take(size_t size, size_t alignment, bool zero, const void *frame) {
    bool zeroed;
    size_t capacity = 0;
    check_each();
    void *block = size > PTRDIFF_MAX ? NULL : take(size, alignment, &zeroed);
    if (block == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    request_describe(block, &size, &capacity);
    if (!zeroed)
        check_given("malloc", block, capacity, true);
    if (!zero)
        fill_taken(block, size);
    else if (!zeroed)
        memset(block, 0, size);
    write_canary(block, size, capacity);
    ledger_put(entry_for(block, size, capacity, true, frame));
    history_add(HISTORY_TAKE, (uintptr_t)block, size, (uint16_t)arena_of(block), current_thread());
    return block;
}

size_t debug_usable(size_t size, size_t capacity) {
    return option_value(OPTION_CANARIES) != 0 ? size : capacity;
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
    bool known = ledger_find((uintptr_t)block, &entry);
    if (!(known ? entry.live : request_describe(block, &entry.size, &entry.capacity))) {
        report_pointer("realloc", block);
        errno = EINVAL;
        return NULL;
    }
    if (known)
        check_canary("realloc", &entry);
    if (size == 0) {
        debug_give("realloc", block, frame);
        return NULL;
    }
    void *moved = debug_take(size, 1, false, frame);
    if (moved != NULL) {
        memcpy(moved, block, min_size(debug_usable(entry.size, entry.capacity), size));
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
    struct ledger_entry entries[FAULTS_MAX];
};

static void check_entry(void *argument, const struct ledger_entry *entry) {
    struct overruns *overruns = argument;
    if (find_overrun(entry) < entry->capacity && overruns->found++ < FAULTS_MAX)
        overruns->entries[overruns->found - 1] = *entry;
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
        check_canary("cadastre_check", &overruns.entries[i]);
    return (int)min_size((size_t)faults + overruns.found, INT32_MAX);
}
