#include "leaks.h"
#include "arenas.h"
#include "kept.h"
#include "ledger.h"
#include "message.h"
#include "misuse.h"
#include "os.h"
#include "stacks.h"
#include <string.h>

#define GROUPS_SHOWN  100
#define OUTPUT_BUFFER 2048
#define ROOM_MIN      ((size_t)1024)

/* Blocks of one origin: those of one stack; or of one size, where no stack is known. */
struct group {
    uint32_t stack; /* 0: not known */
    uintptr_t first;
    size_t count;
    size_t bytes;
};

struct amount {
    size_t bytes;
    size_t blocks;
};

struct listing {
    struct kept_block *blocks;
    size_t count;
    size_t room;
};

/* ------------------------------------------------------------------------------------------------ collecting */
static size_t bytes_for(size_t room) {
    return round_up(room * sizeof(struct kept_block), os_page_size());
}

static bool grow(struct listing *listing) {
    size_t room = max_size(2 * listing->room, ROOM_MIN);
    struct kept_block *blocks = os_map(bytes_for(room));
    if (blocks == NULL)
        return false;
    if (listing->count > 0) {
        memcpy(blocks, listing->blocks, listing->count * sizeof *blocks);
        os_unmap(listing->blocks, bytes_for(listing->room));
    }
    listing->blocks = blocks;
    listing->room = room;
    return true;
}

/* Other threads may take blocks all the while, so that there is no counting them first. */
static bool list_block(void *argument, const struct walk_block *block) {
    struct listing *listing = argument;
    struct ledger_entry entry;
    if (listing->count == listing->room && !grow(listing)) {
        message_print("leaks: no memory for the rest of the list; malloc_stats has the sums");
        return false;
    }
    bool known = ledger_find(block->start, &entry) && entry.live;
    listing->blocks[listing->count++] =
        (struct kept_block){.address = block->start, .size = block->size, .stack = known ? entry.stack : 0};
    return true;
}

/* --------------------------------------------------------------------------------------------------- sorting
 * Heapsort: the C library's qsort may allocate. */
typedef bool comparison(const void *items, size_t a, size_t b);

static void sift(char *items, size_t width, size_t root, size_t count, comparison *less) {
    char swap[sizeof(struct kept_block)];
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && less(items, child, child + 1))
            child++;
        if (!less(items, root, child))
            return;
        memcpy(swap, items + root * width, width);
        memcpy(items + root * width, items + child * width, width);
        memcpy(items + child * width, swap, width);
    }
}

static void sort(void *items, size_t width, size_t count, comparison *less) {
    char *bytes = items;
    char swap[sizeof(struct kept_block)];
    for (size_t root = count / 2; root-- > 0;)
        sift(bytes, width, root, count, less);
    for (size_t end = count; end-- > 1;) {
        memcpy(swap, bytes, width);
        memcpy(bytes, bytes + end * width, width);
        memcpy(bytes + end * width, swap, width);
        sift(bytes, width, 0, end, less);
    }
}

/* What is kept comes last. */
static bool by_origin(const void *items, size_t a, size_t b) {
    const struct kept_block *blocks = items;
    const struct kept_block *x = &blocks[a];
    const struct kept_block *y = &blocks[b];
    if (x->is_kept != y->is_kept)
        return y->is_kept;
    if (x->stack != y->stack)
        return x->stack < y->stack;
    if (x->stack == 0 && x->size != y->size)
        return x->size < y->size;
    return x->address < y->address;
}

static bool by_bytes_falling(const void *items, size_t a, size_t b) {
    const struct group *groups = items;
    if (groups[a].bytes != groups[b].bytes)
        return groups[a].bytes > groups[b].bytes;
    return groups[a].first < groups[b].first;
}

static bool same_origin(const struct kept_block *a, const struct kept_block *b) {
    return a->stack == b->stack && (a->stack != 0 || a->size == b->size);
}

/* Groups take the place of blocks that were counted: there are not more of them, and they are not wider. */
static size_t group_blocks(struct kept_block *blocks, size_t count) {
    struct group *groups = (struct group *)blocks;
    struct kept_block last = {.size = 0};
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        struct kept_block block = blocks[i];
        if (i == 0 || !same_origin(&block, &last))
            groups[found++] = (struct group){block.stack, block.address, 0, 0};
        groups[found - 1].count++;
        groups[found - 1].bytes += block.size;
        last = block;
    }
    return found;
}

_Static_assert(sizeof(struct group) <= sizeof(struct kept_block), "they stand where the blocks stood");

/* -------------------------------------------------------------------------------------------------- printing */
static void add_amount(struct text *text, size_t bytes, size_t blocks) {
    text_add_decimal(text, bytes);
    text_add(text, bytes == 1 ? " byte in " : " bytes in ");
    text_add_decimal(text, blocks);
    text_add(text, blocks == 1 ? " block" : " blocks");
}

static void print_group(struct text *text, const struct group *group) {
    text_add(text, "cadastre: leak: ");
    add_amount(text, group->bytes, group->count);
    text_add(text, group->count == 1 ? ", at " : ", the first at ");
    text_add_hex(text, group->first);
    text_add(text, group->stack != 0 ? ", taken at\n" : "\n");
    stacks_print(text, group->stack, "cadastre:     ");
}

static void add_groups(struct text *text, const struct group *groups, size_t count, struct amount kept) {
    struct amount lost = {0, 0};
    for (size_t i = 0; i < count; i++) {
        lost.blocks += groups[i].count;
        lost.bytes += groups[i].bytes;
        if (i < GROUPS_SHOWN)
            print_group(text, &groups[i]);
    }
    if (count > GROUPS_SHOWN) {
        text_add(text, "cadastre: leak: and ");
        text_add_decimal(text, count - GROUPS_SHOWN);
        text_add(text, " smaller groups\n");
    }
    stacks_print_missing(text, "cadastre: leaks: ");
    text_add(text, "cadastre: leaks: ");
    add_amount(text, lost.bytes, lost.blocks);
    if (kept.blocks > 0) {
        text_add(text, "; besides, the C library, the C++ library and the loader keep ");
        add_amount(text, kept.bytes, kept.blocks);
    }
    struct stacks_total stacks = stacks_total();
    if (lost.blocks > 0 && stacks.stacks + stacks.refused == 0)
        text_add(text, "; CADASTRE_STACKS=16 says who took them");
    text_add(text, "\n");
}

/* Apart, so that its buffer is not below the rest of the report. */
static NOINLINE void print_groups(const struct group *groups, size_t count, struct amount kept) {
    char buffer[OUTPUT_BUFFER];
    int log = message_open_log();
    struct text text = {buffer, 0, sizeof buffer, log};
    add_groups(&text, groups, count, kept);
    text_flush(&text);
    message_close_log(log);
}

/* Takes them off the end of the sorted list. */
static struct amount cut_kept(struct listing *listing) {
    struct amount kept = {0, 0};
    while (listing->count > 0 && listing->blocks[listing->count - 1].is_kept) {
        kept.blocks++;
        kept.bytes += listing->blocks[--listing->count].size;
    }
    return kept;
}

void leaks_report(void) {
    struct listing listing = {NULL, 0, 0};
    if (misuse_is_inside_malloc("leak report"))
        return;
    arenas_walk(list_block, &listing);
    kept_mark(listing.blocks, listing.count);
    sort(listing.blocks, sizeof *listing.blocks, listing.count, by_origin);
    struct amount kept = cut_kept(&listing);
    struct group *groups = (struct group *)listing.blocks;
    size_t count = group_blocks(listing.blocks, listing.count);
    sort(groups, sizeof *groups, count, by_bytes_falling);
    print_groups(groups, count, kept);
    if (listing.room > 0)
        os_unmap(listing.blocks, bytes_for(listing.room));
}
