#include "leaks.h"
#include "arenas.h"
#include "ledger.h"
#include "message.h"
#include "misuse.h"
#include "options.h"
#include "os.h"
#include "stacks.h"
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#define GROUPS_SHOWN  100
#define OUTPUT_BUFFER 4096
#define ROOM_SPARE    1024 /* for blocks that other threads take between counting and listing */

/* A live block; sorted, those of one origin stand together. */
struct block {
    uint32_t stack; /* 0: not known, then the size is the origin */
    uintptr_t address;
    size_t size;
};

struct group {
    struct block *first;
    size_t count;
    size_t bytes;
};

struct listing {
    size_t buffers; /* of the standard streams, which are not in the list; and their bytes */
    size_t buffer_bytes;
    struct block *blocks;
    size_t count;
    size_t room;
};

/* ------------------------------------------------------------------------------------------------ collecting */
static bool count_block(void *argument, const struct walk_block *block) {
    (void)block;
    ++*(size_t *)argument;
    return true;
}

static bool is_stream_buffer(uintptr_t address) {
    (void)address; /* musl's streams have their buffers in them */
#if defined(__GLIBC__)
    FILE *const streams[] = {stdin, stdout, stderr};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if ((uintptr_t)streams[i]->_IO_buf_base == address)
            return true;
#endif
    return false;
}

static bool list_block(void *argument, const struct walk_block *block) {
    struct listing *listing = argument;
    struct ledger_entry entry = {.stack = 0};
    if (listing->count == listing->room)
        return false;
    if (is_stream_buffer(block->start)) {
        listing->buffers++;
        listing->buffer_bytes += block->size;
        return true;
    }
    if (!ledger_find(block->start, &entry) || !entry.live)
        entry.stack = 0;
    listing->blocks[listing->count++] = (struct block){entry.stack, block->start, block->size};
    return true;
}

/* --------------------------------------------------------------------------------------------------- sorting
 * Heapsort: the C library's qsort may allocate. */
typedef bool comparison(const void *items, size_t a, size_t b);

static void sift(char *items, size_t width, size_t root, size_t count, comparison *less) {
    char swap[sizeof(struct block) > sizeof(struct group) ? sizeof(struct block) : sizeof(struct group)];
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
    char swap[sizeof(struct block) > sizeof(struct group) ? sizeof(struct block) : sizeof(struct group)];
    for (size_t root = count / 2; root-- > 0;)
        sift(bytes, width, root, count, less);
    for (size_t end = count; end-- > 1;) {
        memcpy(swap, bytes, width);
        memcpy(bytes, bytes + end * width, width);
        memcpy(bytes + end * width, swap, width);
        sift(bytes, width, 0, end, less);
    }
}

static bool by_origin(const void *items, size_t a, size_t b) {
    const struct block *blocks = items;
    const struct block *x = &blocks[a];
    const struct block *y = &blocks[b];
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
    return groups[a].first->address < groups[b].first->address;
}

static bool same_origin(const struct block *a, const struct block *b) {
    return a->stack == b->stack && (a->stack != 0 || a->size == b->size);
}

/* The groups stand where the blocks stood before: there are not more of them, but they may be wider. */
static size_t group_blocks(struct block *blocks, size_t count, struct group *groups) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || !same_origin(&blocks[i], &blocks[i - 1]))
            groups[found++] = (struct group){&blocks[i], 0, 0};
        groups[found - 1].count++;
        groups[found - 1].bytes += blocks[i].size;
    }
    return found;
}

/* ------------------------------------------------------------------------------------- what is kept by design
 * The rule: the buffers of the three standard streams; what the dynamic linker has taken, or the C and C++ libraries
 * when it called them; and what was taken while no code ran but theirs and ours. (A recorded stack that was cut short
 * counts as the program's, as does all of which no stack was recorded.) */
enum module { MODULE_PROGRAM, MODULE_LINKER, MODULE_LIBRARY, MODULE_OURS };

static enum module module_of(uintptr_t pc) {
    Dl_info info;
    Dl_info ours;
    if (dladdr((void *)pc, &info) == 0 || info.dli_fname == NULL)
        return MODULE_PROGRAM;
    if (dladdr((void *)leaks_report, &ours) != 0 && info.dli_fbase == ours.dli_fbase)
        return MODULE_OURS;
    const char *name = info.dli_fname;
    for (const char *at = name; *at != '\0'; at++)
        if (*at == '/')
            name = at + 1;
    if (strncmp(name, "ld-linux", 8) == 0 || strncmp(name, "ld64", 4) == 0 || strncmp(name, "ld-2", 4) == 0)
        return MODULE_LINKER;
    if (strncmp(name, "libc.so", 7) == 0 || strncmp(name, "libc-2", 6) == 0 || strncmp(name, "libstdc++.so", 12) == 0)
        return MODULE_LIBRARY;
    return MODULE_PROGRAM;
}

static bool is_by_design(const struct group *group) {
    const uintptr_t *pcs;
    unsigned count = stacks_get(group->first->stack, &pcs);
    unsigned at = 0;
    while (at < count && module_of(pcs[at]) == MODULE_OURS)
        at++;
    for (; at < count; at++) {
        enum module module = module_of(pcs[at]);
        if (module == MODULE_PROGRAM || module == MODULE_LINKER)
            return module == MODULE_LINKER;
    }
    return count > 0 && count < max_size(option_value(OPTION_STACKS), STACKS_DEPTH_MIN);
}

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
    text_add_hex(text, group->first->address);
    text_add(text, group->first->stack != 0 ? ", taken at\n" : "\n");
    stacks_print(text, group->first->stack, "cadastre:     ");
}

static void print_groups(struct text *text, const struct group *groups, size_t count, const struct listing *listing) {
    size_t blocks = 0;
    size_t bytes = 0;
    size_t kept = listing->buffers;
    size_t kept_bytes = listing->buffer_bytes;
    size_t shown = 0;
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_by_design(&groups[i])) {
            kept += groups[i].count;
            kept_bytes += groups[i].bytes;
            continue;
        }
        blocks += groups[i].count;
        bytes += groups[i].bytes;
        found++;
        if (shown < GROUPS_SHOWN) {
            print_group(text, &groups[i]);
            shown++;
        }
    }
    if (found > shown) {
        text_add(text, "cadastre: leak: and ");
        text_add_decimal(text, found - shown);
        text_add(text, " smaller groups\n");
    }
    text_add(text, "cadastre: leaks: ");
    add_amount(text, bytes, blocks);
    if (kept > 0) {
        text_add(text, "; besides, the C library, the C++ library and the loader keep ");
        add_amount(text, kept_bytes, kept);
    }
    if (blocks > 0 && stacks_total().stacks == 0)
        text_add(text, "; CADASTRE_STACKS=16 says who took them");
    text_add(text, "\n");
}

void leaks_report(void) {
    char buffer[OUTPUT_BUFFER];
    size_t count = 0;
    if (misuse_is_inside_malloc("leak report"))
        return;
    arenas_walk(count_block, &count);
    count += ROOM_SPARE;
    size_t bytes = round_up(count * (sizeof(struct block) + sizeof(struct group)), os_page_size());
    struct listing listing = {.blocks = os_map(bytes), .room = count};
    if (listing.blocks == NULL) {
        message_print("leaks: no memory for the list; malloc_stats has the sums");
        return;
    }
    struct group *groups = (struct group *)(listing.blocks + count);
    arenas_walk(list_block, &listing);
    sort(listing.blocks, sizeof *listing.blocks, listing.count, by_origin);
    count = group_blocks(listing.blocks, listing.count, groups);
    sort(groups, sizeof *groups, count, by_bytes_falling);
    struct text text = {buffer, 0, sizeof buffer, message_open_log()};
    int log = text.fd;
    print_groups(&text, groups, count, &listing);
    text_flush(&text);
    message_close_log(log);
    os_unmap(listing.blocks, bytes);
}
