/*
 * The heap as JSON lines for programs: what show_alloc_mem_ex has looked at, an object on a line for each thing. Every
 * object has "type" first: zone, slab, block, large, event, or total (of the zone that it names, or with null of all
 * blocks that were asked for). Addresses are strings, as not every reader of JSON has integers of 64 bits.
 */
#ifndef HEAPJSON_H
#define HEAPJSON_H

#include "arenas.h"
#include "history.h"
#include "message.h"

void heapjson_zone(struct text *text, const struct walk_zone *zone);
void heapjson_slab(struct text *text, const struct walk_zone *zone, const struct walk_slab *slab);
void heapjson_zone_total(struct text *text, const struct walk_zone *zone);
void heapjson_large(struct text *text, const struct walk_span *span);
void heapjson_total(struct text *text, size_t blocks, size_t bytes);
void heapjson_event(struct text *text, const struct history_event *event);

/* A block's object: its beginning, then if its bytes were asked for, `bytes_begin`, any number of `bytes` and
 * `bytes_end`; and its end. */
void heapjson_block_begin(struct text *text, const struct walk_block *block);
void heapjson_bytes_begin(struct text *text);
void heapjson_bytes(struct text *text, const unsigned char *bytes, size_t count);
void heapjson_bytes_end(struct text *text);
void heapjson_block_end(struct text *text);

#endif
