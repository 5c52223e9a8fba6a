/*
 * The LARGE tree: coalescing without new mappings, resizing in place, random use against a model; and how many nodes
 * there are for it.
 */
#include "large.h"
#include "account.h"
#include "config.h"
#include "metadata.h"
#include "os.h"
#include "tap.h"

#define SLOTS 200

static unsigned seed = 7;
static unsigned next_random(unsigned below) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

static void *take(size_t size) {
    bool zeroed;
    return large_take(size, size, 1, &zeroed);
}

static void coalescing(void) {
    /* A span of our own to play in, whatever the kernel's layout: cut by resizing. */
    char *whole = take(3 * MIB);
    size_t mapped = os_mapped();
    large_resize(whole, 1 * MIB, false);
    char *second = take(1 * MIB);
    char *third = take(1 * MIB);
    ok(second == whole + MIB && third == whole + 2 * MIB, "a shrunk block's tail serves the next requests, first fit");
    large_give(whole);
    large_give(third);
    large_give(second);
    char *again = take(3 * MIB);
    ok(again == whole && os_mapped() == mapped, "freed neighbours coalesce and serve a larger one: no new mapping");
    large_resize(again, MIB, false);
    ok(large_resize(again, 2 * MIB, false) == again && os_mapped() == mapped, "grows into the free span behind it");
    struct large_view view;
    ok(large_find((uintptr_t)again + 5, &view) && view.start == (uintptr_t)again && view.size == 2 * MIB,
       "is found by an address inside");
    large_give(again);
    ok(!large_give(again) && large_is_valid(), "and is not freed twice");
    large_unmap_free(true);
    ok(!large_find((uintptr_t)again, &view) && large_is_valid(), "unmapping forgets it");
}

static void zeroes(void) {
    bool zeroed;
    char *block = large_take(MIB, MIB, 1, &zeroed);
    ok(zeroed && block[5] == 0, "a fresh mapping is zero");
    block[5] = 1;
    large_give(block);
    char *warm = large_take(MIB, MIB, 1, &zeroed);
    ok(warm == block && !zeroed, "a cached one is not");
    large_give(warm);
    while (large_purge_oldest(SIZE_MAX) > 0)
        ;
    ok(account_retained() == 0 && large_oldest() == UINT64_MAX, "purging leaves nothing retained");
    char *purged = large_take(MIB, MIB, 1, &zeroed);
    ok(purged == block && zeroed && purged[5] == 0, "a purged one keeps its addresses and is zero");
    large_give(purged);
    large_unmap_free(true);
}

/* A span of 4 MiB of which the second half was purged. */
static char *half_purged(void) {
    char *whole = take(4 * MIB);
    large_resize(whole, 2 * MIB, false);
    while (large_purge_oldest(SIZE_MAX) > 0)
        ;
    large_give(whole);
    return whole;
}

static void runs(void) {
    char *low = half_purged();
    struct large_view views[2];
    ok(large_list(0, views, 2) == 2 && views[0].kind == LARGE_CACHED && views[1].kind == LARGE_PURGED &&
           views[0].start + views[0].span == views[1].start && account_retained() == 2 * MIB,
       "cached and purged pages side by side are known apart");
    size_t mapped = os_mapped();
    low[MIB] = 1;
    bool zeroed;
    char *block = large_take(3 * MIB, 3 * MIB, 1, &zeroed);
    ok(block == low && !zeroed && os_mapped() == mapped, "and serve one block together, which is not known to be zero");
    ok(account_retained() == 0 && large_is_valid(), "whose cached pages are no longer retained");
    ok(large_resize(block, 4 * MIB, false) == block && os_mapped() == mapped, "a block grows into what follows");
    large_give(block);
    ok(account_retained() == 4 * MIB && large_purge_oldest(MIB) == MIB && account_retained() == 3 * MIB,
       "as much is purged as is asked for");
    block = large_take(MIB, MIB, 256 * 1024, &zeroed);
    ok(block >= low && block + MIB <= low + 3 * MIB && !zeroed, "what is cached is taken first");
    large_give(block);
    large_unmap_free(true);
    ok(account_retained() == 0 && large_is_valid(), "and all of it can be unmapped");
}

/* Bytes of all spans, free or not. */
static size_t in_tree(void) {
    struct large_view view;
    size_t bytes = 0;
    for (uintptr_t from = 0; large_list(from, &view, 1) == 1; from = view.start + view.span)
        bytes += view.span;
    return bytes;
}

/* Short blocks at multiples of a MiB: what lies between them is kept, and is no purged span like others. */
static void gaps(void) {
    enum { BLOCKS = 64 };
    static char *blocks[BLOCKS];
    bool zeroed, right = true;
    size_t mapped = in_tree();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = large_take(100, 100, MIB, &zeroed);
        right &= zeroed && (uintptr_t)blocks[i] % MIB == 0;
        blocks[i][99] = 1;
    }
    ok(right && in_tree() - mapped == BLOCKS * MIB && large_is_valid(),
       "short aligned blocks: a MiB of addresses each");
    ok(spans_purged() == 0 && account_retained() == 0, "what lies between them is neither purged nor retained");
    ok(large_unmap_free(false) == false && in_tree() - mapped == BLOCKS * MIB, "nor unmapped before all else is");
    char *other = take(3 * MIB);
    ok(in_tree() - mapped >= (BLOCKS + 3) * MIB, "nor does it serve others");
    large_give(other);
    large_unmap_free(false);
    large_give(blocks[5]);
    ok(spans_purged() >= MIB && spans_purged() <= 2 * MIB && account_retained() == 0 && large_is_valid(),
       "when one is freed, all from its neighbour to the next is purged");
    ok(large_take(100, 100, MIB, &zeroed) == blocks[5] && zeroed && blocks[5][99] == 0 && large_is_valid(),
       "and serves another such block");
    ok(large_resize(blocks[7], 300000, false) == blocks[7] && blocks[7][99] == 1 && large_is_valid(),
       "a short block grows into what follows");
    for (size_t i = 0; i < BLOCKS; i++)
        right &= large_give(blocks[i]) && !large_give(blocks[i]);
    while (large_purge_oldest(SIZE_MAX) > 0)
        ;
    large_unmap_free(false);
    ok(right && in_tree() == mapped && large_is_valid(), "when all are freed, so are the addresses");
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = large_take(100, 100, MIB, &zeroed);
    size_t between = in_tree() - mapped;
    ok(large_unmap_free(true) && in_tree() < mapped + between / 2 && large_is_valid(),
       "what lies between them goes, too, where addresses are out");
    for (size_t i = 0; i < BLOCKS; i++)
        large_give(blocks[i]);
    ok(in_tree() == mapped && large_is_valid(), "and blocks that stand alone go with their addresses");
}

static struct {
    unsigned char *block;
    size_t size;
} slots[SLOTS];

static bool check_edges(size_t i) {
    return slots[i].block[0] == (unsigned char)i && slots[i].block[slots[i].size - 1] == (unsigned char)(i + 1);
}

static void mark_edges(size_t i) {
    slots[i].block[0] = (unsigned char)i;
    slots[i].block[slots[i].size - 1] = (unsigned char)(i + 1);
}

static bool overlaps(void) {
    for (size_t i = 0; i < SLOTS; i++)
        for (size_t j = 0; j < i; j++)
            if (slots[i].block != NULL && slots[j].block != NULL && slots[i].block < slots[j].block + slots[j].size &&
                slots[j].block < slots[i].block + slots[i].size)
                return true;
    return false;
}

static void random_use(void) {
    size_t damaged = 0, invalid = 0, overlapping = 0, misaligned = 0;
    for (int step = 0; step < 20000; step++) {
        size_t i = next_random(SLOTS);
        size_t size = 65537 + next_random(600000);
        if (slots[i].block == NULL) {
            bool zeroed;
            size_t alignment = next_random(4) == 0 ? 4096u << next_random(9) : 1;
            slots[i].block = large_take(size, size, alignment, &zeroed);
            slots[i].size = size;
            misaligned += (uintptr_t)slots[i].block % alignment != 0;
            damaged += zeroed && slots[i].block[size / 2] != 0;
            mark_edges(i);
        } else if (next_random(3) == 0) {
            damaged += !check_edges(i);
            unsigned char first = slots[i].block[0];
            unsigned char *moved = large_resize(slots[i].block, size, true);
            if (moved != NULL) {
                damaged += moved[0] != first;
                slots[i].block = moved;
                slots[i].size = size;
                mark_edges(i);
            }
        } else {
            damaged += !check_edges(i);
            large_give(slots[i].block);
            slots[i].block = NULL;
        }
        if (next_random(50) == 0)
            large_purge_oldest(next_random(2) == 0 ? SIZE_MAX : 2 * MIB);
        if (step % 100 == 0) {
            invalid += !large_is_valid();
            overlapping += overlaps();
        }
    }
    ok(damaged == 0 && overlapping == 0 && misaligned == 0, "20,000 random steps: contents kept, disjoint, aligned");
    ok(invalid == 0, "and the tree valid all the way");

    size_t live = 0, listed = 0;
    for (size_t i = 0; i < SLOTS; i++)
        live += slots[i].block != NULL;
    struct large_view view;
    for (uintptr_t from = 0; large_list(from, &view, 1) == 1; from = view.start + 1)
        listed += view.kind == LARGE_LIVE;
    ok(live == listed, "the list has exactly the live blocks");
}

/* Every second of many neighbours is freed, and purged; then the others: runs of cached and purged spans in turn do not
 * grow with their number. */
static void long_runs(void) {
    enum { BLOCKS = 3000 };
    static void *blocks[BLOCKS];
    size_t longest = 0, length = 1, free_ones = 0;
    large_unmap_free(true);
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = take(SMALL_MAX + 1);
    for (size_t i = 0; i < BLOCKS; i += 2)
        large_give(blocks[i]);
    while (large_purge_oldest(SIZE_MAX) > 0)
        ;
    for (size_t i = 1; i < BLOCKS; i += 2)
        large_give(blocks[i]);
    for (const struct node *node = spantree_find_ceiling(spans_root(), 0); node != NULL; node = node->next) {
        length = spans_run_on(node) ? length + 1 : 1;
        longest = max_size(longest, length);
        free_ones += load_relaxed(&node->kind) <= LARGE_PURGED;
    }
    ok(free_ones > BLOCKS / 2 && longest <= 2 * RUN_SPANS_MAX && large_is_valid(),
       "%zu free spans side by side are runs of %zu at the most", free_ones, longest);
    large_unmap_free(true);
}

/* Nodes are never given back: there are as many as there were spans at once, at the most, and two for what is next. */
static void nodes(void) {
    enum { BLOCKS = 1000, ROUNDS = 50 };
    static void *blocks[BLOCKS];
    struct metadata_totals before, after;
    struct large_view view;
    size_t wrong = 0, spans = 0, most = 0;
    large_unmap_free(true);
    metadata_total(&before);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < BLOCKS; i++)
            blocks[i] = take(SMALL_MAX + 1 + next_random(2 * SMALL_MAX));
        for (size_t i = 0; i < BLOCKS; i++)
            large_resize(blocks[i], SMALL_MAX + 1, false); /* what is cut off is a span, too */
        spans = 0;
        for (uintptr_t from = 0; large_list(from, &view, 1) == 1; from = view.start + 1)
            spans++;
        most = max_size(most, spans);
        const struct node *node = directory_find_large((uintptr_t)blocks[0]);
        wrong += node == NULL || load_relaxed(&node->kind) != LARGE_LIVE;
        for (size_t i = 0; i < BLOCKS; i++)
            wrong += !large_give(blocks[i]);
        large_unmap_free(true);
        wrong += large_find((uintptr_t)blocks[0], &view) || load_relaxed(&node->kind) == LARGE_LIVE;
    }
    metadata_total(&after);
    size_t room = (most + SPANS_SPARES) * 256;
    ok(wrong == 0, "nodes of blocks that are gone can be read");
    ok(after.used - before.used <= room,
       "%d blocks live and die, %zu spans at once: %zu kB of nodes more, not over %zu", BLOCKS * ROUNDS, most,
       (after.used - before.used) >> 10, room >> 10);
}

_Static_assert(sizeof(struct node) <= 256, "what metadata takes for a node");

int main(void) {
    coalescing();
    zeroes();
    runs();
    gaps();
    random_use();
    long_runs();
    nodes();
    return tap_done();
}
