/*
 * A strict reader of show_alloc_mem's output: captured through a memory file, parsed into a table, and every rule of
 * the format checked on the way. Allocates nothing from the heap that it looks at.
 */
#ifndef API_HEAPMAP_H
#define API_HEAPMAP_H

#include "cadastre.h"
#include "tap.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum kind { TINY, SMALL, LARGE, KINDS };

static const char *const kind_names[KINDS] = {"TINY", "SMALL", "LARGE"};
static const size_t kind_limits[KINDS] = {1024, 64 << 10, PTRDIFF_MAX};

struct shown {
    enum kind kind;
    uintptr_t heading; /* the zone's or mapping's start, as printed above the block */
    uintptr_t start;
    size_t size;
};

struct heapmap {
    struct shown *blocks; /* ascending */
    size_t count;
    size_t capacity;
    size_t headings;
    size_t total;     /* as printed */
    char error[256];  /* the first rule broken, "" if none */
    const char *text; /* the whole output */
    size_t length;
};

static char heapmap_text[32 << 20];
static struct shown heapmap_table[1 << 19];

/* Takes `word` from the front of the text at *at, or returns 0. */
static int take(const char **at, const char *word) {
    size_t length = strlen(word);
    if (strncmp(*at, word, length) != 0)
        return 0;
    *at += length;
    return 1;
}

/* Takes a number in the given digits, without leading zeros. */
static int take_number(const char **at, const char *digits, size_t *value) {
    size_t base = strlen(digits), length = strspn(*at, digits);
    if (length == 0 || (length > 1 && **at == '0'))
        return 0;
    *value = 0;
    for (; length > 0; length--, ++*at)
        *value = *value * base + (size_t)(strchr(digits, **at) - digits);
    return 1;
}

static int take_address(const char **at, size_t *value) {
    return take(at, "0x") && take_number(at, "0123456789ABCDEF", value);
}

static int take_decimal(const char **at, size_t *value) {
    return take_number(at, "0123456789", value);
}

/* Notes the first broken rule, and returns 0 for the caller to pass on. */
static int heapmap_broken(struct heapmap *map, const char *at, const char *rule) {
    if (!map->error[0])
        snprintf(map->error, sizeof map->error, "%s, at: %.60s", rule, at);
    return 0;
}

/* One heading, "TINY : 0xA0000"; *current becomes its kind and address. */
static int heapmap_heading(struct heapmap *map, const char **at, struct shown *current) {
    const char *line = *at;
    enum kind kind = TINY;
    while (kind < KINDS && !take(at, kind_names[kind]))
        kind++;
    uintptr_t address;
    if (kind == KINDS || !take(at, " : ") || !take_address(at, &address) || !take(at, "\n"))
        return heapmap_broken(map, line, "neither a heading, a block nor the total");
    if (map->headings > 0 && address <= current->heading)
        return heapmap_broken(map, line, "headings do not ascend");
    if (map->count > 0 && address < map->blocks[map->count - 1].start + map->blocks[map->count - 1].size)
        return heapmap_broken(map, line, "a heading lies below the block before it");
    *current = (struct shown){.kind = kind, .heading = address};
    map->headings++;
    return 1;
}

/* One block, "0xA0020 - 0xA004A : 42 bytes", under the heading `current`. */
static int heapmap_block(struct heapmap *map, const char **at, const struct shown *current) {
    const char *line = *at;
    uintptr_t start, end;
    size_t size;
    if (!take_address(at, &start) || !take(at, " - ") || !take_address(at, &end) || !take(at, " : ") ||
        !take_decimal(at, &size) || !take(at, " bytes\n"))
        return heapmap_broken(map, line, "a block's line is malformed");
    if (end != start + size)
        return heapmap_broken(map, line, "a block's end is not its start plus its size");
    if (start < current->heading)
        return heapmap_broken(map, line, "a block lies below its heading");
    if (size > kind_limits[current->kind])
        return heapmap_broken(map, line, "a block is too large for its heading");
    if (map->count > 0) {
        const struct shown *last = &map->blocks[map->count - 1];
        if (start <= last->start || start < last->start + last->size)
            return heapmap_broken(map, line, "blocks do not ascend, or overlap");
        if (current->kind == LARGE && last->heading == current->heading)
            return heapmap_broken(map, line, "two blocks under one LARGE heading");
    }
    if (map->count == map->capacity)
        return heapmap_broken(map, line, "more blocks than this reader holds");
    map->blocks[map->count] = *current;
    map->blocks[map->count].start = start;
    map->blocks[map->count++].size = size;
    return 1;
}

/* Parses map->text; map->error tells what is wrong with it. Returns 1 if nothing is. */
static int heapmap_parse(struct heapmap *map) {
    const char *at = map->text;
    struct shown current = {.kind = KINDS};
    size_t sum = 0, blocks_before_heading = 0;
    while (!take(&at, "Total : ")) {
        if (strncmp(at, "0x", 2) == 0 && current.kind != KINDS) {
            if (!heapmap_block(map, &at, &current))
                return 0;
            sum += map->blocks[map->count - 1].size;
            continue;
        }
        const char *line = at;
        if (map->headings > 0 && map->count == blocks_before_heading)
            return heapmap_broken(map, line, "the heading above has no block");
        blocks_before_heading = map->count;
        if (!heapmap_heading(map, &at, &current))
            return 0;
    }
    if (map->headings > 0 && map->count == blocks_before_heading)
        return heapmap_broken(map, at, "the heading above the total has no block");
    if (!take_decimal(&at, &map->total) || !take(&at, " bytes\n"))
        return heapmap_broken(map, at, "the total is malformed");
    if (at != map->text + map->length)
        return heapmap_broken(map, at, "something follows the total");
    if (map->total != sum)
        return heapmap_broken(map, at, "the total is not the sum of the blocks");
    return 1;
}

/* Calls show_alloc_mem and reads what it printed. One at a time: the table is static. */
__attribute__((unused)) static struct heapmap heapmap_read(void) {
    struct heapmap map = {
        .blocks = heapmap_table, .capacity = sizeof heapmap_table / sizeof *heapmap_table, .text = heapmap_text};
    int file = memfd_create("heapmap", MFD_CLOEXEC);
    int out = dup(STDOUT_FILENO);
    dup2(file, STDOUT_FILENO);
    show_alloc_mem();
    dup2(out, STDOUT_FILENO);
    close(out);
    ssize_t n;
    while (map.length < sizeof heapmap_text - 1 &&
           (n = pread(file, heapmap_text + map.length, sizeof heapmap_text - 1 - map.length, (off_t)map.length)) > 0)
        map.length += (size_t)n;
    close(file);
    heapmap_text[map.length] = '\0';
    heapmap_parse(&map);
    return map;
}

/* The entry of the block that starts at `address`, or NULL. */
__attribute__((unused)) static const struct shown *heapmap_find(const struct heapmap *map, uintptr_t address) {
    size_t low = 0, high = map->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (map->blocks[middle].start < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < map->count && map->blocks[low].start == address ? &map->blocks[low] : NULL;
}

/* Whether the block is listed, with exactly this size. */
__attribute__((unused)) static int heapmap_shows(const struct heapmap *map, const void *block, size_t size) {
    const struct shown *entry = heapmap_find(map, (uintptr_t)block);
    return entry && entry->size == size;
}

#endif
