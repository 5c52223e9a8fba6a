/*
 * Our own statistics: as structures, as text and as JSON; and CADASTRE_STATS, which prints them unasked.
 */
#include "cadastre.h"
#include "census.h"
#include "debug.h"
#include "message.h"
#include "misuse.h"
#include "names.h"
#include "options.h"
#include "os.h"
#include "process.h"
#include "request.h"
#include "sanitizer.h"
#include "scratch.h"
#include "sizeclass.h"
#include "stacks.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define OUTPUT_BUFFER 4096

/* What a call needs; scratch. */
struct report {
    struct census_room room;
    struct cadastre_stats stats;
    struct cadastre_memory resident;
    struct cadastre_arena_stats arena;
    struct cadastre_class_stats classes[CLASSES];
    char buffer[OUTPUT_BUFFER];
};
_Static_assert(sizeof(struct report) <= SCRATCH_MAX, "scratch");

/* NULL: the figures cannot be had now, errno says why. */
static struct report *begin(const char *call) {
    if (misuse_is_inside_malloc(call)) {
        errno = EDEADLK;
        return NULL;
    }
    process_enter();
    return scratch_take(call, sizeof(struct report));
}

static int fail(int error) {
    errno = error;
    return -1;
}

/* --------------------------------------------------------------------------------------------- as structures */

/* As much of `known` as the caller has room for, and zeros in what room there is beyond. */
static void hand_out(void *to, size_t size, const void *known, size_t known_size) {
    memcpy(to, known, min_size(size, known_size));
    if (size > known_size)
        memset((char *)to + known_size, 0, size - known_size);
}

PUBLIC int cadastre_stats(struct cadastre_stats *stats, size_t size) {
    if (size < sizeof stats->size)
        return fail(EINVAL);
    struct report *report = begin("cadastre_stats");
    if (report == NULL)
        return -1;
    census_all(&report->room, &report->stats, NULL);
    hand_out(stats, size, &report->stats, sizeof report->stats);
    scratch_give(report);
    return 0;
}

PUBLIC int cadastre_arena_stats(unsigned arena, struct cadastre_arena_stats *stats, size_t size) {
    if (size < sizeof stats->size)
        return fail(EINVAL);
    struct report *report = begin("cadastre_arena_stats");
    if (report == NULL)
        return -1;
    bool is_there = arena < arenas_count();
    if (is_there) {
        census_arena(&report->room, arena, &report->arena);
        hand_out(stats, size, &report->arena, sizeof report->arena);
    }
    scratch_give(report);
    return is_there ? 0 : fail(ENOENT);
}

PUBLIC int cadastre_resident(struct cadastre_memory *mapped, struct cadastre_memory *resident, size_t size) {
    if (size < sizeof mapped->total)
        return fail(EINVAL);
    struct report *report = begin("cadastre_resident");
    if (report == NULL)
        return -1;
    census_all(&report->room, &report->stats, &report->resident);
    if (mapped != NULL)
        hand_out(mapped, size, &report->stats.mapped, sizeof report->stats.mapped);
    if (resident != NULL)
        hand_out(resident, size, &report->resident, sizeof report->resident);
    scratch_give(report);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------- the tables
 * What is printed stands here once, for text and JSON. */
struct row {
    const char *key;
    const char *label;
    size_t offset;
};

#define ROW(structure, field, label)                                                                                   \
    { #field, label, offsetof(struct structure, field) }

static const struct row memory_rows[] = {
    ROW(cadastre_memory, live, "live"),
    ROW(cadastre_memory, rounding, "rounding"),
    ROW(cadastre_memory, caches, "thread caches' blocks"),
    ROW(cadastre_memory, outgoing, "outgoing blocks"),
    ROW(cadastre_memory, retired, "LARGE spans of threads"),
    ROW(cadastre_memory, free, "free in slabs"),
    ROW(cadastre_memory, tails, "tails of slabs"),
    ROW(cadastre_memory, quarantine, "quarantine"),
    ROW(cadastre_memory, retained, "retained"),
    ROW(cadastre_memory, idle, "idle addresses"),
    ROW(cadastre_memory, headers, "zone headers"),
    ROW(cadastre_memory, guards, "guard units"),
    ROW(cadastre_memory, threads, "thread caches"),
    ROW(cadastre_memory, metadata, "metadata"),
    ROW(cadastre_memory, directory, "directory"),
    ROW(cadastre_memory, debug, "debugging modes"),
    ROW(cadastre_memory, other, "other"),
    ROW(cadastre_memory, total, "total"),
};

static const struct row heap_rows[] = {
    ROW(cadastre_stats, arenas, "arenas"),
    ROW(cadastre_stats, caches, "thread caches"),
    ROW(cadastre_stats, live_blocks, "live blocks"),
    ROW(cadastre_stats, cached_blocks, "cached blocks"),
    ROW(cadastre_stats, free_blocks, "free blocks"),
    ROW(cadastre_stats, large_blocks, "LARGE blocks"),
    ROW(cadastre_stats, large_bytes, "LARGE bytes"),
    ROW(cadastre_stats, large_free, "LARGE spans free"),
    ROW(cadastre_stats, mapped_peak, "most bytes mapped"),
    ROW(cadastre_stats, purged, "bytes purged so far"),
    ROW(cadastre_stats, swing, "retained for swings"),
    ROW(cadastre_stats, metadata_used, "metadata bytes used"),
};

static const struct row arena_rows[] = {
    ROW(cadastre_arena_stats, threads, "threads"),
    ROW(cadastre_arena_stats, zones, "zones"),
    ROW(cadastre_arena_stats, slabs, "slabs"),
    ROW(cadastre_arena_stats, mapped.live, "live"),
    ROW(cadastre_arena_stats, mapped.caches, "cached"),
    ROW(cadastre_arena_stats, mapped.free, "free"),
    ROW(cadastre_arena_stats, mapped.retained, "retained"),
};

static const struct row traffic_rows[] = {
    ROW(cadastre_arena_stats, refills, "refills"),          ROW(cadastre_arena_stats, flushes, "flushes"),
    ROW(cadastre_arena_stats, remote_frees, "remote"),      ROW(cadastre_arena_stats, lock.acquisitions, "locked"),
    ROW(cadastre_arena_stats, lock.contended, "contended"), ROW(cadastre_arena_stats, lock.slept_ns, "slept-ns"),
};

static const struct row arena_json_rows[] = {
    ROW(cadastre_arena_stats, threads, NULL),  ROW(cadastre_arena_stats, zones, NULL),
    ROW(cadastre_arena_stats, slabs, NULL),    ROW(cadastre_arena_stats, zones_mapped, NULL),
    ROW(cadastre_arena_stats, refills, NULL),  ROW(cadastre_arena_stats, mapped_peak, NULL),
    ROW(cadastre_arena_stats, refilled, NULL), ROW(cadastre_arena_stats, flushes, NULL),
    ROW(cadastre_arena_stats, flushed, NULL),  ROW(cadastre_arena_stats, remote_frees, NULL),
};

static const struct row lock_rows[] = {
    ROW(cadastre_lock_stats, acquisitions, "locked"),
    ROW(cadastre_lock_stats, contended, "contended"),
    ROW(cadastre_lock_stats, slept_ns, "slept-ns"),
};

static const struct row class_rows[] = {
    ROW(cadastre_class_stats, live, "live"),
    ROW(cadastre_class_stats, cached, "cached"),
    ROW(cadastre_class_stats, free, "free"),
};

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))

static uint64_t value_of(const void *structure, const struct row *row) {
    return *(const uint64_t *)((const char *)structure + row->offset);
}

/* --------------------------------------------------------------------------------------------------- as text */
#define LABEL_WIDTH  24
#define COLUMN_WIDTH 11

static void add_padding(struct text *text, size_t used, size_t width) {
    for (; used < width; used++)
        text_add(text, " ");
}

/* To the right of a column, a space before it at the least. */
static void add_right(struct text *text, const char *string, size_t width) {
    text_add(text, " ");
    add_padding(text, strlen(string) + 1, width);
    text_add(text, string);
}

static void add_number(struct text *text, uint64_t value, size_t width) {
    char digits[24];
    struct text number = {digits, 0, sizeof digits - 1, -1};
    text_add_decimal(&number, value);
    digits[number.length] = '\0';
    add_right(text, digits, width);
}

static void add_label(struct text *text, const char *label) {
    text_add(text, label);
    add_padding(text, strlen(label), LABEL_WIDTH);
}

static void add_heads(struct text *text, const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        add_right(text, rows[i].label, COLUMN_WIDTH);
}

static void add_figures(struct text *text, const void *structure, const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        add_number(text, value_of(structure, &rows[i]), COLUMN_WIDTH);
}

static void add_memory_line(struct text *text, const char *label, uint64_t mapped, uint64_t resident) {
    add_label(text, label);
    add_number(text, mapped, 2 * COLUMN_WIDTH);
    add_number(text, resident, 2 * COLUMN_WIDTH);
    text_add(text, "\n");
}

/* Live memory is two lines, so that each column sums to its total. */
static void add_memory(struct text *text, const struct cadastre_memory *mapped,
                       const struct cadastre_memory *resident) {
    uint64_t touched = min_size(resident->live, mapped->live);
    add_label(text, "bytes of");
    add_right(text, "mapped", 2 * COLUMN_WIDTH);
    add_right(text, "resident", 2 * COLUMN_WIDTH);
    text_add(text, "\n");
    add_memory_line(text, "live, touched", touched, resident->live);
    add_memory_line(text, "live, untouched", mapped->live - touched, 0);
    for (size_t i = 1; i < COUNT(memory_rows); i++)
        add_memory_line(text, memory_rows[i].label, value_of(mapped, &memory_rows[i]),
                        value_of(resident, &memory_rows[i]));
}

static void add_lock(struct text *text, const char *label, const struct cadastre_lock_stats *stats) {
    add_label(text, label);
    add_figures(text, stats, lock_rows, COUNT(lock_rows));
    text_add(text, "\n");
}

static void sum_classes(struct cadastre_class_stats *sums, const struct cadastre_class_stats *classes) {
    for (unsigned class = 0; class < CLASSES; class ++) {
        sums[class].block_size = classes[class].block_size;
        sums[class].slabs += classes[class].slabs;
        sums[class].live += classes[class].live;
        sums[class].cached += classes[class].cached;
        sums[class].free += classes[class].free;
    }
}

static void add_classes(struct text *text, const struct cadastre_class_stats *classes) {
    text_add(text, "\n");
    add_right(text, "class", COLUMN_WIDTH);
    add_right(text, "slabs", COLUMN_WIDTH);
    add_heads(text, class_rows, COUNT(class_rows));
    text_add(text, "\n");
    for (unsigned class = 0; class < CLASSES; class ++) {
        if (classes[class].slabs == 0)
            continue;
        add_number(text, classes[class].block_size, COLUMN_WIDTH);
        add_number(text, classes[class].slabs, COLUMN_WIDTH);
        add_figures(text, &classes[class], class_rows, COUNT(class_rows));
        text_add(text, "\n");
    }
}

static void add_arena(struct text *text, unsigned index, const struct cadastre_arena_stats *arena,
                      const struct row *rows, size_t count) {
    if (arena->zones == 0 && arena->refills == 0)
        return; /* it was never used */
    add_number(text, index, sizeof "arena" - 1);
    add_figures(text, arena, rows, count);
    text_add(text, "\n");
}

static void add_arena_heads(struct text *text, const struct row *rows, size_t count) {
    text_add(text, "\narena");
    add_heads(text, rows, count);
    text_add(text, "\n");
}

static void add_traffic(struct text *text, struct cadastre_arena_stats *arena) {
    add_arena_heads(text, traffic_rows, COUNT(traffic_rows));
    for (unsigned i = 0; i < arenas_count(); i++) {
        census_arena_counters(i, arena);
        add_arena(text, i, arena, traffic_rows, COUNT(traffic_rows));
    }
}

/* Sums up the classes as well. */
static void add_arenas(struct text *text, struct report *report) {
    add_arena_heads(text, arena_rows, COUNT(arena_rows));
    for (unsigned i = 0; i < arenas_count(); i++) {
        census_arena(&report->room, i, &report->arena);
        add_arena(text, i, &report->arena, arena_rows, COUNT(arena_rows));
        sum_classes(report->classes, report->arena.classes);
    }
}

static void add_text(struct text *text, struct report *report) {
    const struct cadastre_stats *stats = &report->stats;
    text_add(text, "cadastre: statistics of process ");
    text_add_decimal(text, (uint64_t)getpid());
    text_add(text, "\n\n");
    add_memory(text, &stats->mapped, &report->resident);
    text_add(text, "\n");
    for (size_t i = 0; i < COUNT(heap_rows); i++) {
        add_label(text, heap_rows[i].label);
        add_number(text, value_of(stats, &heap_rows[i]), 2 * COLUMN_WIDTH);
        text_add(text, "\n");
    }
    stacks_print_missing(text, "");
    text_add(text, "\n");
    add_label(text, "lock of");
    add_heads(text, lock_rows, COUNT(lock_rows));
    text_add(text, "\n");
    add_lock(text, "LARGE", &stats->large_lock);
    add_lock(text, "metadata", &stats->metadata_lock);
    add_traffic(text, &report->arena);
    add_arenas(text, report);
    add_classes(text, report->classes);
}

/* --------------------------------------------------------------------------------------------------- as JSON */

/* "key":value and so on, with a comma before each but the first. */
static void add_members(struct text *text, const void *structure, const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        text_add(text, i == 0 ? "\"" : ",\"");
        text_add(text, rows[i].key);
        text_add(text, "\":");
        text_add_decimal(text, value_of(structure, &rows[i]));
    }
}

static void add_object(struct text *text, const char *key, const void *structure, const struct row *rows,
                       size_t count) {
    text_add(text, ",\"");
    text_add(text, key);
    text_add(text, "\":{");
    add_members(text, structure, rows, count);
    text_add(text, "}");
}

static void add_json_classes(struct text *text, const struct cadastre_class_stats *classes) {
    const char *comma = "";
    text_add(text, ",\"classes\":[");
    for (unsigned class = 0; class < CLASSES; class ++) {
        if (classes[class].slabs == 0)
            continue;
        text_add(text, comma);
        text_add(text, "{\"block_size\":");
        text_add_decimal(text, classes[class].block_size);
        text_add(text, ",\"slabs\":");
        text_add_decimal(text, classes[class].slabs);
        text_add(text, ",");
        add_members(text, &classes[class], class_rows, COUNT(class_rows));
        text_add(text, "}");
        comma = ",";
    }
    text_add(text, "]");
}

static void add_json(struct text *text, struct report *report) {
    const struct cadastre_stats *stats = &report->stats;
    const struct cadastre_arena_stats *arena = &report->arena;
    text_add(text, "{\"process\":");
    text_add_decimal(text, (uint64_t)getpid());
    text_add(text, ",");
    add_members(text, stats, heap_rows, COUNT(heap_rows));
    add_object(text, "mapped", &stats->mapped, memory_rows, COUNT(memory_rows));
    add_object(text, "resident", &report->resident, memory_rows, COUNT(memory_rows));
    add_object(text, "large_lock", &stats->large_lock, lock_rows, COUNT(lock_rows));
    add_object(text, "metadata_lock", &stats->metadata_lock, lock_rows, COUNT(lock_rows));
    text_add(text, ",\"per_arena\":[");
    for (unsigned i = 0; i < arenas_count(); i++) {
        census_arena(&report->room, i, &report->arena);
        text_add(text, i == 0 ? "{\"arena\":" : ",{\"arena\":");
        text_add_decimal(text, i);
        text_add(text, ",");
        add_members(text, arena, arena_json_rows, COUNT(arena_json_rows));
        add_object(text, "lock", &arena->lock, lock_rows, COUNT(lock_rows));
        add_object(text, "mapped", &arena->mapped, memory_rows, COUNT(memory_rows));
        add_json_classes(text, arena->classes);
        text_add(text, "}");
    }
    text_add(text, "]}\n");
}

static int print(int fd, enum cadastre_format format, struct report *report) {
    struct text text = {report->buffer, 0, sizeof report->buffer, fd};
    census_all(&report->room, &report->stats, &report->resident);
    if (format == CADASTRE_JSON)
        add_json(&text, report);
    else
        add_text(&text, report);
    text_flush(&text);
    return text.fd >= 0 ? 0 : fail(EIO);
}

PUBLIC int cadastre_stats_print(int fd, enum cadastre_format format) {
    if (fd < 0 || (format != CADASTRE_TEXT && format != CADASTRE_JSON))
        return fail(EINVAL);
    struct report *report = begin("cadastre_stats_print");
    if (report == NULL)
        return -1;
    int result = print(fd, format, report);
    scratch_give(report);
    return result;
}

/* ------------------------------------------------------------------------------------------- CADASTRE_STATS */

/* Of a process that was entered long since: it is the entry that calls this. */
static void print_text(void) {
    int saved = errno;
    struct report *report = NULL;
    if (!misuse_is_inside_malloc("CADASTRE_STATS"))
        report = scratch_take("CADASTRE_STATS", sizeof *report);
    if (report != NULL) {
        int log = message_open_log();
        print(log, CADASTRE_TEXT, report);
        message_close_log(log);
        scratch_give(report);
    }
    errno = saved;
}

static void on_signal(int number) {
    (void)number;
    process_defer(print_text);
}

/* A program that has a handler for the signal already, or ignores it, keeps that. */
static void handle_signal(void) {
    struct sigaction action;
    if (sigaction(SIGUSR2, NULL, &action) != 0 || action.sa_handler != SIG_DFL)
        return;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, NULL);
}

/* After boot. */
__attribute__((constructor(102))) static void start(void) {
    if (option_value(OPTION_STATS) == STATS_SIGNAL)
        handle_signal();
}

__attribute__((destructor(102))) static void finish(void) {
    if (option_value(OPTION_STATS) == STATS_EXIT)
        print_text();
}

/* ------------------------------------------------------------------------------------------ macOS's questions */
PUBLIC size_t cadastre_malloc_size(const void *block) {
    size_t size;
    size_t capacity;
    if (sanitizer_is_loaded())
        return sanitizer_malloc_usable_size((void *)block);
    return block != NULL && request_describe(block, &size, &capacity) ? debug_usable(size, capacity) : 0;
}

PUBLIC size_t cadastre_malloc_good_size(size_t size) {
    if (size <= SMALL_MAX)
        return sizeclass_capacity(size);
    process_enter(); /* which reads the page size */
    return size > PTRDIFF_MAX ? size : round_up(size, os_page_size());
}

ALSO(malloc_size, size_t, (const void *), cadastre_malloc_size)
ALSO(malloc_good_size, size_t, (size_t), cadastre_malloc_good_size)
