/*
 * show_alloc_mem_ex: which of the things that the walk comes by are to be shown, and the bytes of live blocks. How they
 * look is heaptext's and heapjson's business.
 */
#include "cadastre.h"
#include "heapjson.h"
#include "heaptext.h"
#include "history.h"
#include "misuse.h"
#include "scratch.h"
#include "syscall.h"
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define OUTPUT_BUFFER 4096
#define DUMP_CHUNK    64 /* whole rows of text */
#define GONE          SIZE_MAX

#define SHOW_ALL                                                                                                       \
    (CADASTRE_SHOW_ZONES | CADASTRE_SHOW_SLABS | CADASTRE_SHOW_BLOCKS | CADASTRE_SHOW_TOTALS | CADASTRE_SHOW_HISTORY)
#define CATEGORIES_ALL (1u << CADASTRE_TINY | 1u << CADASTRE_SMALL | 1u << CADASTRE_LARGE)

struct view {
    struct text text;
    struct cadastre_show what; /* no zeros that mean something else */
    const struct walk_zone *zone;
    bool has_heading; /* the zone's has been printed */
    bool has_columns; /* and that of its columns */
    size_t blocks;    /* that the filters let through */
    size_t bytes;
};

/* What the call needs besides; scratch. */
struct report {
    struct walk_room room;
    char buffer[OUTPUT_BUFFER];
};
_Static_assert(sizeof(struct report) <= SCRATCH_MAX, "scratch");

static bool shows(const struct view *view, unsigned what) {
    return (view->what.what & what) != 0;
}

static bool is_json(const struct view *view) {
    return view->what.format == CADASTRE_JSON;
}

/* ------------------------------------------------------------------------------------------------ the filters */
/* A block of no bytes counts as one. */
static bool wants(const struct view *view, enum walk_category category, unsigned arena, uintptr_t start, size_t size) {
    const struct cadastre_show *what = &view->what;
    bool wants_arena = what->arenas == 0 || (category != WALK_LARGE && (what->arenas >> arena & 1));
    return wants_arena && (what->categories >> category & 1) && start < (uintptr_t)what->to &&
           start + max_size(size, 1) > (uintptr_t)what->from;
}

static bool wants_block(const struct view *view, const struct walk_block *block) {
    return block->size >= view->what.size_min && block->size <= view->what.size_max &&
           wants(view, block->category, block->arena, block->start, block->size);
}

/* ------------------------------------------------------------------------------------------- a block's bytes */

/*
 * Up to a chunk of them from `offset` on; GONE: the block is not live any more, so that what was read may be anything.
 * The kernel does the reading, since the page may be unmapped meanwhile: then it gives less, which a plain load cannot.
 */
static size_t read_live(const struct walk_block *block, size_t offset, size_t want, unsigned char *chunk) {
    struct iovec to = {chunk, min_size(want, DUMP_CHUNK)};
    struct iovec from = {(char *)block->start + offset, to.iov_len};
    long self = syscall3(SYS_getpid, 0, 0, 0);
    long got = syscall6(SYS_process_vm_readv, self, (long)&to, 1, (long)&from, 1, 0);
    if (!arenas_is_live(block))
        return GONE;
    return got > 0 ? (size_t)got : 0;
}

/* -------------------------------------------------------------------------------------------------- the walk */
static void add_heading(struct view *view, const struct walk_block *block) {
    if (view->has_heading)
        return;
    view->has_heading = true;
    struct walk_span span = {block->start, block->capacity, LARGE_LIVE};
    if (block->category == WALK_LARGE)
        heaptext_large(&view->text, &span);
    else
        heaptext_zone(&view->text, view->zone);
}

static void add_columns(struct view *view) {
    if (!view->has_columns)
        heaptext_columns(&view->text);
    view->has_columns = true;
}

/* A descriptor that refused a part gets no more. */
static bool may_go_on(const struct view *view) {
    return view->text.fd >= 0;
}

static bool show_zone(void *argument, const struct walk_zone *zone) {
    struct view *view = argument;
    view->zone = zone;
    view->has_heading = view->has_columns = false;
    if (!shows(view, CADASTRE_SHOW_ZONES) || !wants(view, zone->category, zone->arena, zone->start, zone->size))
        return true;
    if (is_json(view))
        heapjson_zone(&view->text, zone);
    else
        heaptext_zone(&view->text, zone);
    view->has_heading = true;
    return may_go_on(view);
}

static bool show_slab(void *argument, const struct walk_zone *zone, const struct walk_slab *slab) {
    struct view *view = argument;
    if (!shows(view, CADASTRE_SHOW_SLABS) || slab->status != SLAB_CARVED ||
        !wants(view, zone->category, zone->arena, slab->start, UNIT_SIZE))
        return true;
    if (is_json(view)) {
        heapjson_slab(&view->text, zone, slab);
        return may_go_on(view);
    }
    if (!view->has_heading)
        heaptext_zone(&view->text, zone);
    view->has_heading = true;
    add_columns(view);
    heaptext_slab(&view->text, slab);
    return may_go_on(view);
}

static bool show_zone_end(void *argument, const struct walk_zone *zone) {
    struct view *view = argument;
    view->has_heading = false;
    if (!shows(view, CADASTRE_SHOW_ZONES) || !wants(view, zone->category, zone->arena, zone->start, zone->size))
        return true;
    if (is_json(view)) {
        heapjson_zone_total(&view->text, zone);
        return may_go_on(view);
    }
    add_columns(view);
    heaptext_zone_total(&view->text, &zone->counts);
    return may_go_on(view);
}

static bool show_span(void *argument, const struct walk_span *span) {
    struct view *view = argument;
    view->has_heading = false;
    if (!shows(view, CADASTRE_SHOW_ZONES) || !wants(view, WALK_LARGE, ARENA_NONE, span->start, span->size))
        return true;
    if (is_json(view))
        heapjson_large(&view->text, span);
    else
        heaptext_large(&view->text, span);
    view->has_heading = true;
    return may_go_on(view);
}

static void begin_block(struct view *view, const struct walk_block *block) {
    if (is_json(view)) {
        heapjson_block_begin(&view->text, block);
        if (view->what.hexdump > 0)
            heapjson_bytes_begin(&view->text);
    } else {
        add_heading(view, block);
        heaptext_block(&view->text, block);
    }
}

static void end_block(struct view *view) {
    if (!is_json(view))
        return;
    if (view->what.hexdump > 0)
        heapjson_bytes_end(&view->text);
    heapjson_block_end(&view->text);
}

static bool show_block(void *argument, const struct walk_block *block) {
    struct view *view = argument;
    unsigned char chunk[DUMP_CHUNK];
    if (!wants_block(view, block))
        return true;
    size_t wanted = shows(view, CADASTRE_SHOW_BLOCKS) ? min_size(view->what.hexdump, block->size) : 0;
    size_t count = wanted > 0 ? read_live(block, 0, wanted, chunk) : 0;
    if (count == GONE)
        return true;
    view->blocks++;
    view->bytes += block->size;
    if (!shows(view, CADASTRE_SHOW_BLOCKS))
        return true;
    begin_block(view, block);
    for (size_t at = 0; count > 0 && count != GONE;) {
        if (is_json(view))
            heapjson_bytes(&view->text, chunk, count);
        else
            heaptext_bytes(&view->text, at, chunk, count);
        at += count;
        count = at < wanted && may_go_on(view) ? read_live(block, at, wanted - at, chunk) : 0;
    }
    end_block(view);
    return may_go_on(view);
}

/* ---------------------------------------------------------------------------------------------- the history */
static bool is_event_asked_for(const struct view *view, const struct history_event *event) {
    bool large = event->arena == ARENA_NONE;
    enum walk_category category = large ? WALK_LARGE : event->size <= TINY_MAX ? WALK_TINY : WALK_SMALL;
    if ((view->what.categories >> category & 1) == 0)
        return false;
    if (view->what.arenas != 0 && (large || (view->what.arenas >> event->arena & 1) == 0))
        return false;
    return event->size >= view->what.size_min && event->size <= view->what.size_max &&
           event->address >= (uintptr_t)view->what.from && event->address < (uintptr_t)view->what.to;
}

static void show_history(struct view *view) {
    uint64_t newest = history_newest();
    uint64_t oldest = newest > history_capacity() ? newest - history_capacity() + 1 : 1;
    struct history_event event;
    for (uint64_t number = oldest; number <= newest && may_go_on(view); number++) {
        if (!history_read(number, &event) || !is_event_asked_for(view, &event))
            continue;
        if (is_json(view))
            heapjson_event(&view->text, &event);
        else
            heaptext_event(&view->text, &event);
    }
}

/* ------------------------------------------------------------------------------------------------- the call */
static bool is_zero(const char *bytes, size_t count) {
    while (count > 0 && bytes[count - 1] == 0)
        count--;
    return count == 0;
}

/* Copies what is asked for, with what the zeros in it mean. false: something is asked for that is not known. A later
 * version's structure is longer: with zeros there, it asks for nothing that is not known. */
static bool read_request(struct cadastre_show *request, const struct cadastre_show *given) {
    *request = (struct cadastre_show){.size = sizeof *request};
    if (given != NULL) {
        if (given->size < sizeof *given || !is_zero((const char *)given + sizeof *given, given->size - sizeof *given))
            return false;
        *request = *given;
    }
    if (request->what == 0)
        request->what = SHOW_ALL;
    if (request->categories == 0)
        request->categories = CATEGORIES_ALL;
    if (request->size_max == 0)
        request->size_max = SIZE_MAX;
    if (request->to == NULL)
        request->to = (const void *)UINTPTR_MAX;
    if (request->fd == 0)
        request->fd = STDOUT_FILENO;
    return request->what <= SHOW_ALL && request->categories <= CATEGORIES_ALL &&
           (request->format == CADASTRE_TEXT || request->format == CADASTRE_JSON);
}

static int fail(int error) {
    errno = error;
    return -1;
}

PUBLIC int show_alloc_mem_ex(const struct cadastre_show *what) {
    static const struct walk_visitor visitor = {show_zone, show_slab, show_block, show_zone_end, show_span};
    struct view view = {.blocks = 0};
    if (!read_request(&view.what, what))
        return fail(EINVAL);
    if (misuse_is_inside_malloc("show_alloc_mem_ex"))
        return fail(EDEADLK);
    struct report *report = scratch_take("show_alloc_mem_ex", sizeof *report);
    if (report == NULL)
        return -1;
    view.text = (struct text){report->buffer, 0, sizeof report->buffer, view.what.fd};
    arenas_walk_all(&visitor, &view, &report->room);
    if (shows(&view, CADASTRE_SHOW_TOTALS) && is_json(&view))
        heapjson_total(&view.text, view.blocks, view.bytes);
    else if (shows(&view, CADASTRE_SHOW_TOTALS))
        heaptext_total(&view.text, view.blocks, view.bytes);
    if (shows(&view, CADASTRE_SHOW_HISTORY))
        show_history(&view);
    text_flush(&view.text);
    scratch_give(report);
    return view.text.fd >= 0 ? 0 : fail(EIO);
}
