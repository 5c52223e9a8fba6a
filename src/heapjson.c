#include "heapjson.h"

static const char *const categories[] = {[WALK_TINY] = "TINY", [WALK_SMALL] = "SMALL", [WALK_LARGE] = "LARGE"};
static void begin(struct text *text, const char *type) {
    text_add(text, "{\"type\":\"");
    text_add(text, type);
    text_add(text, "\"");
}

static void end(struct text *text) {
    text_add(text, "}\n");
}

static void add_key(struct text *text, const char *key) {
    text_add(text, ",\"");
    text_add(text, key);
    text_add(text, "\":");
}

static void add_string(struct text *text, const char *key, const char *value) {
    add_key(text, key);
    text_add(text, "\"");
    text_add(text, value);
    text_add(text, "\"");
}

static void add_number(struct text *text, const char *key, size_t value) {
    add_key(text, key);
    text_add_decimal(text, value);
}

static void add_address(struct text *text, const char *key, uintptr_t address) {
    add_key(text, key);
    text_add(text, "\"");
    text_add_HEX(text, address);
    text_add(text, "\"");
}

static void add_null(struct text *text, const char *key) {
    add_key(text, key);
    text_add(text, "null");
}

static void add_counts(struct text *text, const struct walk_counts *counts) {
    add_number(text, "blocks", counts->blocks);
    add_number(text, "live", counts->live);
    add_number(text, "cached", walk_cached(counts));
    add_number(text, "free", counts->free);
    add_number(text, "live_bytes", counts->live_bytes);
    add_number(text, "free_bytes", counts->free_bytes);
    add_number(text, "fragmentation", walk_fragmentation(counts));
}

void heapjson_zone(struct text *text, const struct walk_zone *zone) {
    begin(text, "zone");
    add_address(text, "address", zone->start);
    add_string(text, "category", categories[zone->category]);
    add_number(text, "arena", zone->arena);
    add_number(text, "bytes", zone->size);
    end(text);
}

void heapjson_slab(struct text *text, const struct walk_zone *zone, const struct walk_slab *slab) {
    begin(text, "slab");
    add_address(text, "address", slab->start);
    add_address(text, "zone", zone->start);
    add_number(text, "arena", zone->arena);
    add_number(text, "class", slab->block_size);
    add_counts(text, &slab->counts);
    end(text);
}

void heapjson_zone_total(struct text *text, const struct walk_zone *zone) {
    begin(text, "total");
    add_address(text, "zone", zone->start);
    add_number(text, "arena", zone->arena);
    add_number(text, "slabs", zone->counts.units[SLAB_CARVED]);
    add_number(text, "dirty", zone->counts.units[SLAB_DIRTY]);
    add_number(text, "purging", zone->counts.units[SLAB_PURGING]);
    add_number(text, "idle", zone->counts.units[SLAB_IDLE]);
    add_counts(text, &zone->counts);
    end(text);
}

void heapjson_large(struct text *text, const struct walk_span *span) {
    begin(text, "large");
    add_address(text, "address", span->start);
    add_number(text, "bytes", span->size);
    add_string(text, "state", large_kind_name(span->kind));
    end(text);
}

void heapjson_block_begin(struct text *text, const struct walk_block *block) {
    begin(text, "block");
    add_address(text, "address", block->start);
    add_number(text, "size", block->size);
    add_number(text, "capacity", block->capacity);
    add_string(text, "category", categories[block->category]);
    if (block->category == WALK_LARGE)
        add_null(text, "arena");
    else
        add_number(text, "arena", block->arena);
    add_address(text, "zone", block->zone);
}

void heapjson_bytes_begin(struct text *text) {
    add_key(text, "bytes");
    text_add(text, "\"");
}

void heapjson_bytes(struct text *text, const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        text_add_bytes(text, &"0123456789ABCDEF"[bytes[i] >> 4], 1);
        text_add_bytes(text, &"0123456789ABCDEF"[bytes[i] & 15], 1);
    }
}

void heapjson_bytes_end(struct text *text) {
    text_add(text, "\"");
}

void heapjson_block_end(struct text *text) {
    end(text);
}

void heapjson_total(struct text *text, size_t blocks, size_t bytes) {
    begin(text, "total");
    add_null(text, "zone");
    add_number(text, "live", blocks);
    add_number(text, "live_bytes", bytes);
    end(text);
}

void heapjson_event(struct text *text, const struct history_event *event) {
    begin(text, "event");
    add_number(text, "number", event->number);
    add_string(text, "operation", event->operation == HISTORY_TAKE ? "take" : "give");
    add_address(text, "address", event->address);
    add_number(text, "size", event->size);
    add_number(text, "thread", event->thread);
    if (event->arena == ARENA_NONE)
        add_null(text, "arena");
    else
        add_number(text, "arena", event->arena);
    end(text);
}
