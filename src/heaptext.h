/*
 * The heap as text for people: what show_alloc_mem_ex has looked at, a line or more for each thing. Everything goes to
 * the caller's text; nothing is kept.
 */
#ifndef HEAPTEXT_H
#define HEAPTEXT_H

#include "arenas.h"
#include "history.h"
#include "message.h"

void heaptext_zone(struct text *text, const struct walk_zone *zone);
void heaptext_columns(struct text *text); /* what stands in the columns of the next two */
void heaptext_slab(struct text *text, const struct walk_slab *slab);
void heaptext_zone_total(struct text *text, const struct walk_counts *counts);
void heaptext_large(struct text *text, const struct walk_span *span);
void heaptext_block(struct text *text, const struct walk_block *block);
void heaptext_bytes(struct text *text, size_t offset, const unsigned char *bytes, size_t count);
void heaptext_total(struct text *text, size_t blocks, size_t bytes);
void heaptext_event(struct text *text, const struct history_event *event);

#endif
