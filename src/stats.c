/*
 * The C library's names for looking at and tuning malloc, with what they mean here. A program linked statically must
 * find all of them in one place, or the C library's whole malloc comes in beside ours.
 */
#include "large.h"
#include "message.h"
#include "misuse.h"
#include "names.h"
#include "os.h"
#include "process.h"
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

/* Of the C libraries only glibc has these names. */
#if defined(__GLIBC__) && !defined(CADASTRE_PREFIXED)

#if !__GLIBC_PREREQ(2, 33)
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 mallinfo2(void);
#endif

struct totals {
    size_t live_blocks[ARENAS_MAX];
    size_t live_bytes[ARENAS_MAX];
    size_t large_blocks;
    size_t large_bytes;
};

static bool count_block(void *argument, const struct walk_block *block) {
    struct totals *totals = argument;
    if (block->category == WALK_LARGE) {
        totals->large_blocks++;
        totals->large_bytes += block->capacity;
    } else {
        totals->live_blocks[block->arena]++;
        totals->live_bytes[block->arena] += block->capacity;
    }
    return true;
}

static void count_all(struct totals *totals) {
    *totals = (struct totals){.large_blocks = 0};
    process_enter();
    arenas_walk(count_block, totals);
}

static struct mallinfo2 describe(const char *call) {
    struct totals totals;
    struct mallinfo2 info = {.arena = 0};
    if (misuse_is_inside_malloc(call))
        return info;
    info.keepcost = os_retained();
    count_all(&totals);
    for (unsigned i = 0; i < arenas_count(); i++) {
        struct arena_totals of_arena;
        arena_total(arenas_at(i), &of_arena);
        info.arena += of_arena.mapped;
        info.uordblks += totals.live_bytes[i];
        info.ordblks += of_arena.dirty_slabs;
    }
    info.hblks = totals.large_blocks;
    info.hblkhd = totals.large_bytes;
    info.fordblks = info.arena > info.uordblks ? info.arena - info.uordblks : 0;
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
                             .hblks = (int)info.hblks,
                             .hblkhd = (int)info.hblkhd,
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

/* glibc's parameters speak of its own structures; as there, one without effect is accepted. */
PUBLIC int mallopt(int parameter, int value) {
    (void)parameter;
    (void)value;
    return 1;
}

static void add_figure(struct text *text, const char *name, size_t value) {
    text_add(text, name);
    text_add_decimal(text, value);
    text_add(text, "\n");
}

PUBLIC void malloc_stats(void) {
    char buffer[1024];
    struct text text = {buffer, 0, sizeof buffer, STDERR_FILENO};
    struct totals totals;
    size_t in_use = 0;
    if (misuse_is_inside_malloc("malloc_stats"))
        return;
    count_all(&totals);
    for (unsigned i = 0; i < arenas_count(); i++) {
        struct arena_totals of_arena;
        arena_total(arenas_at(i), &of_arena);
        if (of_arena.zones == 0)
            continue;
        text_add(&text, "Arena ");
        text_add_decimal(&text, i);
        text_add(&text, ":\n");
        add_figure(&text, "system bytes     = ", of_arena.mapped);
        add_figure(&text, "in use bytes     = ", totals.live_bytes[i]);
        add_figure(&text, "in use blocks    = ", totals.live_blocks[i]);
        in_use += totals.live_bytes[i];
    }
    text_add(&text, "Total (incl. LARGE):\n");
    add_figure(&text, "system bytes     = ", os_mapped());
    add_figure(&text, "in use bytes     = ", in_use + totals.large_bytes);
    add_figure(&text, "LARGE blocks     = ", totals.large_blocks);
    add_figure(&text, "LARGE bytes      = ", totals.large_bytes);
    add_figure(&text, "retained bytes   = ", os_retained());
    add_figure(&text, "max system bytes = ", os_mapped_peak());
    text_flush(&text);
}

static void add_element(struct text *text, const char *before, size_t count, size_t size) {
    text_add(text, before);
    text_add(text, "\" count=\"");
    text_add_decimal(text, count);
    text_add(text, "\" size=\"");
    text_add_decimal(text, size);
    text_add(text, "\"/>\n");
}

/* glibc's schema, version 1. The text is made first and given to stdio in one piece, outside of any lock. */
PUBLIC int malloc_info(int options, FILE *stream) {
    char buffer[ARENAS_MAX * 192 + 1024];
    struct text text = {buffer, 0, sizeof buffer, -1};
    struct totals totals;
    if (options != 0)
        return EINVAL;
    if (misuse_is_inside_malloc("malloc_info"))
        return EAGAIN;
    count_all(&totals);
    text_add(&text, "<malloc version=\"1\">\n");
    size_t free_total = 0;
    for (unsigned i = 0; i < arenas_count(); i++) {
        struct arena_totals of_arena;
        arena_total(arenas_at(i), &of_arena);
        if (of_arena.zones == 0)
            continue;
        free_total += of_arena.free_bytes;
        text_add(&text, "<heap nr=\"");
        text_add_decimal(&text, i);
        text_add(&text, "\">\n");
        add_element(&text, "<total type=\"rest", of_arena.dirty_slabs, of_arena.free_bytes);
        text_add(&text, "<system type=\"current\" size=\"");
        text_add_decimal(&text, of_arena.mapped);
        text_add(&text, "\"/>\n</heap>\n");
    }
    add_element(&text, "<total type=\"rest", 0, free_total);
    add_element(&text, "<total type=\"mmap", totals.large_blocks, totals.large_bytes);
    text_add(&text, "<system type=\"current\" size=\"");
    text_add_decimal(&text, os_mapped());
    text_add(&text, "\"/>\n<system type=\"max\" size=\"");
    text_add_decimal(&text, os_mapped_peak());
    text_add(&text, "\"/>\n</malloc>\n");
    return fwrite(buffer, 1, text.length, stream) == text.length ? 0 : -1;
}

#endif
