#include "heaptext.h"
#include <string.h>

#define ROW_BYTES     16
#define ADDRESS_WIDTH 14 /* 0x and twelve digits */
#define COUNT_WIDTH   8

static const char *const categories[] = {[WALK_TINY] = "TINY", [WALK_SMALL] = "SMALL", [WALK_LARGE] = "LARGE"};
static void add_right(struct text *text, const char *bytes, size_t count, size_t width) {
    for (size_t i = count; i < width; i++)
        text_add(text, " ");
    text_add_bytes(text, bytes, count);
}

/* Notes a number in `buffer`, which the text writes to. */
static struct text in_buffer(char *buffer, size_t capacity) {
    return (struct text){buffer, 0, capacity, -1};
}

static void add_number(struct text *text, size_t value, size_t width) {
    char buffer[24];
    struct text digits = in_buffer(buffer, sizeof buffer);
    text_add_decimal(&digits, value);
    add_right(text, buffer, digits.length, width);
}

static void add_address(struct text *text, uintptr_t address) {
    char buffer[24];
    struct text digits = in_buffer(buffer, sizeof buffer);
    text_add_HEX(&digits, address);
    add_right(text, buffer, digits.length, ADDRESS_WIDTH);
}

static void add_sum(struct text *text, const char *before, size_t value, const char *after) {
    text_add(text, before);
    text_add_decimal(text, value);
    text_add(text, after);
}

/* ----------------------------------------------------------------------------------------------------- zones */
static void add_heading(struct text *text, enum walk_category category, uintptr_t start) {
    text_add(text, categories[category]);
    text_add(text, " : ");
    text_add_HEX(text, start);
}

void heaptext_zone(struct text *text, const struct walk_zone *zone) {
    add_heading(text, zone->category, zone->start);
    add_sum(text, ", arena ", zone->arena, "");
    add_sum(text, ", ", zone->size, " bytes\n");
}

void heaptext_columns(struct text *text) {
    text_add(text, "          slab   class  blocks    live  cached    free  fragmented\n");
}

/* From the third column to the last. */
static void add_counts(struct text *text, const struct walk_counts *counts) {
    add_number(text, counts->blocks, COUNT_WIDTH);
    add_number(text, counts->live, COUNT_WIDTH);
    add_number(text, walk_cached(counts), COUNT_WIDTH);
    add_number(text, counts->free, COUNT_WIDTH);
    add_number(text, walk_fragmentation(counts), COUNT_WIDTH + 3);
    text_add(text, "%");
}

void heaptext_slab(struct text *text, const struct walk_slab *slab) {
    add_address(text, slab->start);
    add_number(text, slab->block_size, COUNT_WIDTH);
    add_counts(text, &slab->counts);
    text_add(text, "\n");
}

void heaptext_zone_total(struct text *text, const struct walk_counts *counts) {
    const char *name = counts->units[SLAB_CARVED] == 1 ? " slab " : " slabs";
    add_number(text, counts->units[SLAB_CARVED], ADDRESS_WIDTH - strlen(name));
    text_add(text, name);
    add_right(text, "", 0, COUNT_WIDTH);
    add_counts(text, counts);
    text_add(text, "\n");
    add_right(text, "", 0, ADDRESS_WIDTH);
    add_sum(text, "  ", counts->live_bytes, " bytes live; units: ");
    add_sum(text, "", counts->units[SLAB_DIRTY], " dirty, ");
    if (counts->units[SLAB_PURGING] > 0)
        add_sum(text, "", counts->units[SLAB_PURGING], " being purged, ");
    add_sum(text, "", counts->units[SLAB_IDLE], " idle\n");
}

void heaptext_large(struct text *text, const struct walk_span *span) {
    add_heading(text, WALK_LARGE, span->start);
    add_sum(text, ", ", span->size, " bytes, ");
    text_add(text, large_kind_name(span->kind));
    text_add(text, "\n");
}

/* ---------------------------------------------------------------------------------------------------- blocks */
void heaptext_block(struct text *text, const struct walk_block *block) {
    text_add_HEX(text, block->start);
    text_add(text, " - ");
    text_add_HEX(text, block->start + block->size);
    add_sum(text, " : ", block->size, " bytes\n");
}

static void add_hex_digits(struct text *text, size_t value, unsigned count) {
    while (count-- > 0)
        text_add_bytes(text, &"0123456789ABCDEF"[value >> (4 * count) & 15], 1);
}

/* "    0020  48 65 6C 6C 6F 2C 20 77  6F 72 6C 64 21              |Hello, world!|" */
static void add_row(struct text *text, size_t offset, const unsigned char *bytes, size_t count) {
    text_add(text, "    ");
    add_hex_digits(text, offset, offset > UINT16_MAX ? 2 * sizeof offset : 4);
    text_add(text, " ");
    for (size_t i = 0; i < ROW_BYTES; i++) {
        text_add(text, i == ROW_BYTES / 2 ? "  " : " ");
        if (i < count)
            add_hex_digits(text, bytes[i], 2);
        else
            text_add(text, "  ");
    }
    text_add(text, "  |");
    for (size_t i = 0; i < count; i++)
        text_add_bytes(text, bytes[i] >= ' ' && bytes[i] <= '~' ? (const char *)&bytes[i] : ".", 1);
    text_add(text, "|\n");
}

void heaptext_bytes(struct text *text, size_t offset, const unsigned char *bytes, size_t count) {
    for (size_t at = 0; at < count; at += ROW_BYTES)
        add_row(text, offset + at, bytes + at, min_size(count - at, ROW_BYTES));
}

void heaptext_total(struct text *text, size_t blocks, size_t bytes) {
    add_sum(text, "Total : ", bytes, " bytes");
    add_sum(text, " in ", blocks, blocks == 1 ? " block\n" : " blocks\n");
}

void heaptext_event(struct text *text, const struct history_event *event) {
    add_sum(text, "Event ", event->number, event->operation == HISTORY_TAKE ? " : takes " : " : gives back ");
    text_add_HEX(text, event->address);
    add_sum(text, " : ", event->size, " bytes");
    add_sum(text, ", thread ", event->thread, "");
    if (event->arena == ARENA_NONE)
        text_add(text, ", LARGE\n");
    else
        add_sum(text, ", arena ", event->arena, "\n");
}
