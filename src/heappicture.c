/*
 * show_alloc_mem_map: the heap as a picture, a character for each unit of each zone. A row is 64 units behind a label
 * of 15 characters, so that a terminal of 80 columns holds it.
 */
#include "arenas.h"
#include "cadastre.h"
#include "message.h"
#include "misuse.h"
#include "scratch.h"
#include "syscall.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define OUTPUT_BUFFER 4096
#define LABEL_WIDTH   15
#define ROW_UNITS     64
#define SHARES        9

#define HEADER  '#'
#define GUARD   '|'
#define IDLE    ' '
#define DIRTY   '.'
#define PURGING '~'
#define NO_LIVE '0'
#define FULL    '*'

struct picture {
    struct text text;
    bool has_colours;
    const char *colour; /* that the terminal has now; NULL: its own */
    char units[ZONE_UNITS];
    size_t spans[LARGE_LIVE + 1]; /* of LARGE since the last zone, by kind */
    size_t bytes[LARGE_LIVE + 1];
};

/* What the call needs; scratch. */
struct report {
    struct picture picture;
    struct walk_room room;
    char buffer[OUTPUT_BUFFER];
};
_Static_assert(sizeof(struct report) <= SCRATCH_MAX, "scratch");

extern char **environ;

/* The value of a variable; "" if there is none. (getenv would be the program's, if it has one of its own.) */
static const char *environment_value(const char *name) {
    size_t length = strlen(name);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=')
            return *entry + length + 1;
    return "";
}

static bool wants_colours(int fd) {
    char settings[sizeof(struct termios)]; /* the kernel's is shorter */
    return syscall3(SYS_ioctl, fd, TCGETS, (long)settings) == 0 && environment_value("NO_COLOR")[0] == '\0' &&
           strcmp(environment_value("TERM"), "dumb") != 0;
}

/* ----------------------------------------------------------------------------------------------------- units */
static char symbol_of(const struct walk_slab *slab) {
    size_t live = slab->counts.live;
    switch (slab->status) {
    case SLAB_IDLE:
        return IDLE;
    case SLAB_DIRTY:
        return DIRTY;
    case SLAB_PURGING:
        return PURGING;
    case SLAB_CARVED:
        break;
    }
    if (live == slab->counts.blocks)
        return FULL;
    return (char)(live == 0 ? NO_LIVE : '1' + live * SHARES / slab->counts.blocks);
}

static const char *colour_of(char symbol) {
    switch (symbol) {
    case IDLE:
        return NULL;
    case HEADER:
    case GUARD:
    case DIRTY:
    case PURGING:
        return "\033[90m"; /* grey */
    case NO_LIVE:
        return "\033[30;44m";
    case '1':
    case '2':
    case '3':
        return "\033[30;46m";
    case '4':
    case '5':
    case '6':
        return "\033[30;42m";
    case FULL:
        return "\033[30;41m";
    default:
        return "\033[30;43m";
    }
}

static void set_colour(struct picture *picture, const char *colour) {
    if (!picture->has_colours || colour == picture->colour)
        return;
    if (picture->colour != NULL)
        text_add(&picture->text, "\033[0m");
    if (colour != NULL)
        text_add(&picture->text, colour);
    picture->colour = colour;
}

static void add_symbol(struct picture *picture, char symbol) {
    set_colour(picture, colour_of(symbol));
    text_add_bytes(&picture->text, &symbol, 1);
}

/* ------------------------------------------------------------------------------------------------------ rows */
static void add_label(struct text *text, char *buffer, size_t length) {
    text_add_bytes(text, buffer, length);
    for (; length < LABEL_WIDTH; length++)
        text_add(text, " ");
}

/* The address above, category and arena below. */
static void add_row(struct picture *picture, const struct walk_zone *zone, unsigned first) {
    char buffer[32];
    struct text label = {buffer, 0, sizeof buffer, -1};
    if (first == 0) {
        text_add_HEX(&label, zone->start);
    } else {
        text_add(&label, zone->category == WALK_TINY ? "TINY arena " : "SMALL arena ");
        text_add_decimal(&label, zone->arena);
    }
    add_label(&picture->text, buffer, label.length);
    for (unsigned unit = first; unit < first + ROW_UNITS && unit < zone->units; unit++)
        add_symbol(picture, picture->units[unit]);
    set_colour(picture, NULL);
    text_add(&picture->text, "\n");
}

static void add_large(struct picture *picture) {
    const char *before = "LARGE          ";
    for (int kind = LARGE_LIVE; kind >= 0; kind--) {
        if (picture->spans[kind] == 0)
            continue;
        text_add(&picture->text, before);
        text_add_decimal(&picture->text, picture->spans[kind]);
        text_add(&picture->text, " ");
        text_add(&picture->text, large_kind_name(kind));
        text_add(&picture->text, " (");
        text_add_decimal(&picture->text, picture->bytes[kind]);
        text_add(&picture->text, " bytes)");
        before = ", ";
        picture->spans[kind] = picture->bytes[kind] = 0;
    }
    if (before[0] == ',')
        text_add(&picture->text, "\n");
}

static void add_legend(struct picture *picture) {
    static const struct {
        char symbol;
        const char *meaning;
    } legend[] = {{HEADER, " header  "},
                  {NO_LIVE, " none live  "},
                  {'1', "-"},
                  {'9', " ninths live  "},
                  {FULL, " all live\n               "},
                  {DIRTY, " dirty  "},
                  {PURGING, " being purged  "},
                  {GUARD, " guard  blank: idle\n"}};
    text_add(&picture->text, "64 KiB each:   ");
    for (size_t i = 0; i < sizeof legend / sizeof *legend; i++) {
        add_symbol(picture, legend[i].symbol);
        set_colour(picture, NULL);
        text_add(&picture->text, legend[i].meaning);
    }
}

/* -------------------------------------------------------------------------------------------------- the walk */
static bool draw_zone(void *argument, const struct walk_zone *zone) {
    struct picture *picture = argument;
    add_large(picture);
    memset(picture->units, IDLE, sizeof picture->units);
    memset(picture->units, HEADER, zone->first_unit);
    picture->units[0] = GUARD;
    return true;
}

static bool draw_slab(void *argument, const struct walk_zone *zone, const struct walk_slab *slab) {
    struct picture *picture = argument;
    picture->units[(slab->start - zone->start) / UNIT_SIZE] = symbol_of(slab);
    return true;
}

static bool draw_zone_end(void *argument, const struct walk_zone *zone) {
    struct picture *picture = argument;
    for (unsigned first = 0; first < ZONE_UNITS; first += ROW_UNITS)
        add_row(picture, zone, first);
    return picture->text.fd >= 0;
}

static bool note_span(void *argument, const struct walk_span *span) {
    struct picture *picture = argument;
    picture->spans[span->kind]++;
    picture->bytes[span->kind] += span->size;
    return true;
}

static int fail(int error) {
    errno = error;
    return -1;
}

PUBLIC int show_alloc_mem_map(int fd) {
    static const struct walk_visitor visitor = {draw_zone, draw_slab, NULL, draw_zone_end, note_span};
    if (misuse_is_inside_malloc("show_alloc_mem_map"))
        return fail(EDEADLK);
    struct report *report = scratch_take("show_alloc_mem_map", sizeof *report);
    if (report == NULL)
        return -1;
    struct picture *picture = &report->picture;
    picture->text = (struct text){report->buffer, 0, sizeof report->buffer, fd};
    picture->has_colours = wants_colours(fd);
    arenas_walk_all(&visitor, picture, &report->room);
    add_large(picture);
    add_legend(picture);
    text_flush(&picture->text);
    bool written = picture->text.fd >= 0;
    scratch_give(report);
    return written ? 0 : fail(EIO);
}

_Static_assert(ZONE_UNITS % ROW_UNITS == 0, "whole rows");
