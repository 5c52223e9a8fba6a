/*
 * The C library's names for looking at and tuning malloc, with what they mean here (see cadastre.h). A program linked
 * statically must find all of them in one place, or the C library's whole malloc comes in beside ours.
 */
#include "account.h"
#include "arenas.h"
#include "census.h"
#include "large.h"
#include "message.h"
#include "misuse.h"
#include "names.h"
#include "options.h"
#include "os.h"
#include "process.h"
#include "scratch.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* Of the C libraries only glibc has these names. */
#ifdef __GLIBC__

#if !__GLIBC_PREREQ(2, 33)
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 mallinfo2(void);
#endif

/* Of malloc_info, for a heap. */
#define HEAP_BUFFER (CLASSES * 112 + 1024)

/* What a call needs; scratch. */
struct report {
    struct census_room room;
    struct cadastre_stats stats;
    struct cadastre_arena_stats arena;
    char buffer[HEAP_BUFFER];
};
_Static_assert(sizeof(struct report) <= SCRATCH_MAX, "scratch");

/* NULL: the figures cannot be had now. */
static struct report *begin(const char *call) {
    if (misuse_is_inside_malloc(call)) {
        errno = EAGAIN;
        return NULL;
    }
    process_enter();
    return scratch_take(call, sizeof(struct report));
}

/* Of blocks that are live, by capacity. */
static uint64_t in_use(const struct cadastre_memory *memory) {
    return memory->live + memory->rounding;
}

static uint64_t not_in_use(const struct cadastre_memory *memory) {
    return memory->caches + memory->outgoing + memory->retired + memory->free + memory->tails + memory->quarantine +
           memory->retained + memory->idle;
}

static struct mallinfo2 describe(const char *call) {
    struct report *report = begin(call);
    if (report == NULL)
        return (struct mallinfo2){.arena = 0};
    const struct cadastre_stats *stats = &report->stats;
    census_all(&report->room, &report->stats, NULL);
    uint64_t used = in_use(&stats->mapped) - stats->large_bytes;
    uint64_t unused = not_in_use(&stats->mapped);
    struct mallinfo2 info = {.arena = used + unused,
                             .ordblks = stats->free_blocks + stats->large_free,
                             .smblks = stats->cached_blocks,
                             .hblks = stats->large_blocks,
                             .hblkhd = stats->large_bytes,
                             .fsmblks = stats->mapped.caches + stats->mapped.outgoing,
                             .uordblks = used,
                             .fordblks = unused,
                             .keepcost = stats->mapped.retained};
    scratch_give(report);
    return info;
}

PUBLIC struct mallinfo2 mallinfo2(void) {
    return describe("mallinfo2");
}

/* The old structure's fields are ints: what does not fit wraps, as in glibc. */
PUBLIC struct mallinfo mallinfo(void) {
    struct mallinfo2 info = describe("mallinfo");
    return (struct mallinfo){.arena = (int)info.arena,
                             .ordblks = (int)info.ordblks,
                             .smblks = (int)info.smblks,
                             .hblks = (int)info.hblks,
                             .hblkhd = (int)info.hblkhd,
                             .fsmblks = (int)info.fsmblks,
                             .uordblks = (int)info.uordblks,
                             .fordblks = (int)info.fordblks,
                             .keepcost = (int)info.keepcost};
}

PUBLIC int malloc_trim(size_t pad) {
    (void)pad; /* what is kept is in pieces: there is no top to pad */
    if (misuse_is_inside_malloc("malloc_trim"))
        return 0;
    process_enter();
    process_drain();
    return arenas_purge_all();
}

static bool set_perturb(uint8_t byte) {
    char digits[4];
    struct text text = {digits, 0, sizeof digits - 1, -1};
    text_add_decimal(&text, byte);
    digits[text.length] = '\0';
    return option_change(OPTION_PERTURB, digits) == 0;
}

/*
 *   M_ARENA_MAX        threads that start from now on share so many arenas
 *   M_TRIM_THRESHOLD   what may be retained however little is live, in place of RETAINED_MIN; negative: all
 *   M_PERTURB          CADASTRE_PERTURB; refused if the process was started without a debugging mode
 *   M_MMAP_THRESHOLD   no effect, like the rest: every block above SMALL_MAX is a mapping, and no other
 *   M_MMAP_MAX, M_TOP_PAD, M_ARENA_TEST, M_MXFAST, M_CHECK_ACTION, M_GRAIN, M_KEEP, M_NLBLKS and unknown ones
 *                      speak of glibc's own structures; as there, one without effect is accepted
 */
PUBLIC int mallopt(int parameter, int value) {
    process_enter();
    switch (parameter) {
    case M_ARENA_MAX:
        if (value > 0)
            arenas_limit_joining((unsigned)value);
        return 1;
    case M_TRIM_THRESHOLD:
        account_set_retained_min(value < 0 ? PTRDIFF_MAX : (size_t)value);
        arenas_keep_contract();
        return 1;
    case M_PERTURB:
        return process_may_debug() && set_perturb((uint8_t)value);
    default:
        return 1;
    }
}

/* ------------------------------------------------------------------------------------------------ malloc_stats */
static void add_figure(struct text *text, const char *name, uint64_t value) {
    text_add(text, name);
    for (uint64_t bound = 1000000000; bound > 1 && value < bound; bound /= 10) /* ten columns, as in glibc */
        text_add(text, " ");
    text_add_decimal(text, value);
    text_add(text, "\n");
}

/* glibc's lines, and behind them others like them for what it has none. */
PUBLIC void malloc_stats(void) {
    struct report *report = begin("malloc_stats");
    if (report == NULL)
        return;
    struct text text = {report->buffer, 0, sizeof report->buffer, STDERR_FILENO};
    const struct cadastre_stats *stats = &report->stats;
    const struct cadastre_arena_stats *arena = &report->arena;
    for (unsigned i = 0; i < arenas_count(); i++) {
        census_arena(&report->room, i, &report->arena);
        if (arena->zones == 0)
            continue;
        text_add(&text, "Arena ");
        text_add_decimal(&text, i);
        add_figure(&text, ":\nsystem bytes     = ", arena->mapped.total);
        add_figure(&text, "in use bytes     = ", in_use(&arena->mapped));
    }
    census_all(&report->room, &report->stats, NULL);
    struct large_counts most = large_most();
    add_figure(&text, "Total (incl. mmap):\nsystem bytes     = ", stats->mapped.total);
    add_figure(&text, "in use bytes     = ", in_use(&stats->mapped));
    add_figure(&text, "max mmap regions = ", most.blocks);
    add_figure(&text, "max mmap bytes   = ", most.bytes);
    add_figure(&text, "in use blocks    = ", stats->live_blocks);
    add_figure(&text, "mmap regions     = ", stats->large_blocks);
    add_figure(&text, "mmap bytes       = ", stats->large_bytes);
    add_figure(&text, "retained bytes   = ", stats->mapped.retained);
    add_figure(&text, "max system bytes = ", stats->mapped_peak);
    text_flush(&text);
    scratch_give(report);
}

/* ------------------------------------------------------------------------------------------------- malloc_info
 * glibc's schema, version 1: "fast" are the blocks in thread caches, "rest" what else is free, "sizes" the free blocks
 * by class. The text is made a heap at a time and given to stdio in one piece, outside of any lock. */

static void add_attribute(struct text *text, const char *before, uint64_t value, const char *after) {
    text_add(text, before);
    text_add_decimal(text, value);
    text_add(text, after);
}

static void add_total(struct text *text, const char *type, uint64_t count, uint64_t size) {
    text_add(text, "<total type=\"");
    text_add(text, type);
    add_attribute(text, "\" count=\"", count, "\"");
    add_attribute(text, " size=\"", size, "\"/>\n");
}

static void add_system(struct text *text, uint64_t now, uint64_t most, uint64_t usable) {
    add_attribute(text, "<system type=\"current\" size=\"", now, "\"/>\n");
    add_attribute(text, "<system type=\"max\" size=\"", most, "\"/>\n");
    add_attribute(text, "<aspace type=\"total\" size=\"", now, "\"/>\n");
    add_attribute(text, "<aspace type=\"mprotect\" size=\"", usable, "\"/>\n");
}

static void add_sizes(struct text *text, const struct cadastre_class_stats *classes) {
    text_add(text, "<sizes>\n");
    for (unsigned class = 0; class < CLASSES; class ++) {
        uint64_t from = class == 0 ? 1 : classes[class - 1].block_size + UINT64_C(1);
        if (classes[class].free == 0)
            continue;
        add_attribute(text, "<size from=\"", from, "\"");
        add_attribute(text, " to=\"", classes[class].block_size, "\"");
        add_attribute(text, " total=\"", classes[class].free * classes[class].block_size, "\"");
        add_attribute(text, " count=\"", classes[class].free, "\"/>\n");
    }
    text_add(text, "</sizes>\n");
}

static void add_heap(struct text *text, unsigned index, const struct cadastre_arena_stats *arena) {
    uint64_t fast = 0;
    uint64_t rest = 0;
    for (unsigned class = 0; class < CLASSES; class ++) {
        fast += arena->classes[class].cached;
        rest += arena->classes[class].free;
    }
    add_attribute(text, "<heap nr=\"", index, "\">\n");
    add_sizes(text, arena->classes);
    add_total(text, "fast", fast, arena->mapped.caches);
    add_total(text, "rest", rest, not_in_use(&arena->mapped) - arena->mapped.caches);
    add_system(text, arena->mapped.total, arena->mapped_peak, arena->mapped.total - arena->mapped.guards);
    text_add(text, "</heap>\n");
}

static bool hand_over(struct text *text, FILE *stream) {
    size_t length = text->length;
    text->length = 0;
    return fwrite(text->buffer, 1, length, stream) == length;
}

static bool write_info(struct report *report, FILE *stream) {
    struct text text = {report->buffer, 0, sizeof report->buffer, -1};
    const struct cadastre_stats *stats = &report->stats;
    text_add(&text, "<malloc version=\"1\">\n");
    bool written = hand_over(&text, stream);
    for (unsigned i = 0; i < arenas_count(); i++) {
        census_arena(&report->room, i, &report->arena);
        if (report->arena.zones == 0)
            continue;
        add_heap(&text, i, &report->arena);
        written &= hand_over(&text, stream);
    }
    census_all(&report->room, &report->stats, NULL);
    uint64_t fast = stats->mapped.caches + stats->mapped.outgoing;
    add_total(&text, "fast", stats->cached_blocks, fast);
    add_total(&text, "rest", stats->free_blocks + stats->large_free, not_in_use(&stats->mapped) - fast);
    add_total(&text, "mmap", stats->large_blocks, stats->large_bytes);
    add_system(&text, stats->mapped.total, stats->mapped_peak, stats->mapped.total - stats->mapped.guards);
    text_add(&text, "</malloc>\n");
    return written & hand_over(&text, stream);
}

/* No point of cancellation, as what writes to a stream is: the thread would leave its scratch behind. */
PUBLIC int malloc_info(int options, FILE *stream) {
    int cancelled;
    if (options != 0)
        return EINVAL;
    struct report *report = begin("malloc_info");
    if (report == NULL)
        return errno;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelled);
    bool written = write_info(report, stream);
    pthread_setcancelstate(cancelled, NULL);
    scratch_give(report);
    return written ? 0 : -1;
}

#endif
