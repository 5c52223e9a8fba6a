#include "large.h"
#include "account.h"
#include "config.h"
#include "directory.h"
#include "message.h"
#include "os.h"
#include "spans.h"

static struct lock lock = LOCK_INIT(LOCK_LARGE);
static bool guard_edges;             /* constant after boot */
static _Atomic size_t guarded_count; /* live guarded blocks; written under lock */

static struct large_counts live; /* under lock, as the next */
static struct large_counts most;

/* Each takes two mappings, of which a process has 65,530. More blocks than these have no guards. */
#define GUARDED_MAX 16384

#define LIMIT_PERIOD 64 /* purges between looks at the limit on memory */

/* The node whose span starts there: what the directory notes of it is right at once, most often. */
static struct node *find_start(const void *block) {
    struct node *node = directory_find_large((uintptr_t)block);
    if (LIKELY(node != NULL && load_relaxed(&node->start) == (uintptr_t)block))
        return node;
    return spantree_find_exact(spans_root(), (uintptr_t)block);
}

static struct node *find_live(const void *block) {
    struct node *node = find_start(block);
    return node != NULL && load_relaxed(&node->kind) == LARGE_LIVE ? node : NULL;
}

/* Under lock. */
static void add_live(ptrdiff_t blocks, ptrdiff_t bytes) {
    account_add_large_live(bytes);
    live.blocks += (size_t)blocks;
    live.bytes += (size_t)bytes;
    most.blocks = max_size(most.blocks, live.blocks);
    most.bytes = max_size(most.bytes, live.bytes);
}

/* Takes the lock, with as many spare nodes there as any operation needs. false: no memory, and no lock held. */
static bool lock_with_spares(void) {
    lock_acquire(&lock);
    while (UNLIKELY(spans_spare_count() < SPANS_SPARES)) {
        lock_release(&lock);
        struct node *node = spans_make_spare();
        if (node == NULL)
            return false;
        lock_acquire(&lock);
        spans_add_spare(node);
    }
    return true;
}

/* ----------------------------------------------------------------------------------------- taking and giving */

static void *map_guarded(size_t span, size_t behind, size_t alignment) {
    size_t page = os_page_size();
    char *p = os_map_aligned(span + max_size(alignment, page) + behind, alignment);
    if (p == NULL)
        return NULL;
    char *block = p + max_size(alignment, page); /* whose alignment leaves more than a page before it: it goes back */
    if (block - page > p)
        os_unmap(p, (size_t)(block - page - p));
    os_guard(block - page, page);
    os_guard(block + span, behind);
    return block;
}

static void *take_guarded(size_t size, size_t span, size_t alignment) {
    const size_t page = os_page_size();
    size_t behind = page * min_size(max_size(span / 8 / page, 1), UINT16_MAX);
    char *block = map_guarded(span, behind, alignment);
    if (block == NULL)
        block = map_guarded(span, behind = page, alignment);
    if (block == NULL)
        return NULL;
    if (!lock_with_spares()) {
        os_unmap(block - page, page + span + behind);
        return NULL;
    }
    struct node *node = spans_add((uintptr_t)block, span);
    node->size = size;
    node->guarded = true;
    node->pages_behind = (uint16_t)(behind / page);
    add_relaxed(&guarded_count, 1);
    account_add_large_resident((ptrdiff_t)span);
    add_live(1, (ptrdiff_t)span);
    lock_release(&lock);
    return block;
}

static size_t guards_behind(const struct node *node) {
    return node->guarded ? node->pages_behind * os_page_size() : 0;
}

/* A page behind it stays a guard. */
bool large_extend(void *block, size_t room) {
    lock_acquire(&lock);
    const struct node *node = find_live(block);
    size_t span = node == NULL ? 0 : node->span;
    size_t behind = node == NULL ? 0 : guards_behind(node);
    lock_release(&lock);
    if (node == NULL || room <= span)
        return node != NULL;
    size_t more = round_up(room, os_page_size()) - span;
    if (more >= behind || !os_unguard((char *)block + span, more))
        return false;
    lock_acquire(&lock);
    struct node *extended = find_live(block);
    if (extended != NULL && extended->span == span) { /* or it was freed meanwhile, which is the caller's fault */
        extended->span += more;
        extended->pages_behind = (uint16_t)(extended->pages_behind - more / os_page_size());
        account_add_large_resident((ptrdiff_t)more);
        account_add_large_live((ptrdiff_t)more);
    }
    lock_release(&lock);
    return extended != NULL;
}

/* What must be free for an aligned span. */
static size_t need_of(size_t span, size_t alignment) {
    return alignment > os_page_size() ? span + alignment - os_page_size() : span;
}

/* Blocks for which addresses are mapped that are not theirs, and kept. */
static bool is_sparse(size_t span, size_t alignment) {
    return alignment > os_page_size() && alignment <= LARGE_GAP_MAX && span < LARGE_SPARSE_MAX;
}

/* The node becomes a block; gives the lock back. A short one is not noted: it may share a unit with the start of
 * another. */
static void *publish_unlocking(struct node *node, size_t size, size_t alignment) {
    store_relaxed(&node->size, size);
    node->sparse = is_sparse(node->span, alignment);
    if (node->span > UNIT_SIZE)
        directory_note_large(node->start, node);
    add_live(1, (ptrdiff_t)node->span);
    void *block = (void *)node->start;
    lock_release(&lock);
    return block;
}

void *large_take_warm(size_t size, size_t room, size_t alignment) {
    size_t span = large_span(room);
    bool zeroed;
    if (!lock_with_spares())
        return NULL;
    struct node *node = spans_find_warm(need_of(span, alignment));
    if (node == NULL) {
        lock_release(&lock);
        return NULL;
    }
    return publish_unlocking(spans_take(node, round_up(node->start, alignment), span, &zeroed), size, alignment);
}

/* An aligned one in new addresses, of which those around it become gaps. NULL: they cannot be had. */
static void *take_sparse(size_t size, size_t span, size_t alignment) {
    size_t need = need_of(span, alignment);
    void *p = os_map_sparse(need);
    if (p == NULL)
        return NULL;
    uintptr_t start = round_up((uintptr_t)p, alignment);
    if (span > UNIT_SIZE)
        directory_add(start); /* or it is just not found without the lock */
    if (!lock_with_spares()) {
        os_unmap(p, need);
        return NULL;
    }
    bool zeroed;
    return publish_unlocking(spans_take(spans_add_gap((uintptr_t)p, need), start, span, &zeroed), size, alignment);
}

void *large_take(size_t size, size_t room, size_t alignment, bool *zeroed) {
    size_t span = large_span(room);
    size_t need = need_of(span, alignment);
    bool sparse = is_sparse(span, alignment);
    if (UNLIKELY(guard_edges) && load_relaxed(&guarded_count) < GUARDED_MAX) {
        *zeroed = true;
        return take_guarded(size, round_up(room, os_page_size()), alignment);
    }
    if (!lock_with_spares())
        return NULL;
    struct node *node = spans_find_warm(need);
    if (node == NULL)
        node = spans_find_run(need);
    if (node == NULL && sparse)
        node = spans_find_gap(need);
    if (node != NULL)
        return publish_unlocking(spans_take(node, round_up(node->start, alignment), span, zeroed), size, alignment);
    lock_release(&lock);
    *zeroed = true;
    void *p = sparse ? take_sparse(size, span, alignment) : NULL;
    if (p != NULL)
        return p;
    p = os_map_aligned(span, alignment);
    if (UNLIKELY(p == NULL)) {
        span = round_up(room, os_page_size()); /* of a limit's last addresses none is wasted */
        p = os_map_aligned(span, alignment);
        if (p == NULL)
            return NULL;
    }
    directory_add((uintptr_t)p); /* or it is just not found without the lock */
    if (!lock_with_spares()) {
        os_unmap(p, span);
        return NULL;
    }
    account_add_large_resident((ptrdiff_t)span);
    return publish_unlocking(spans_add((uintptr_t)p, span), size, alignment);
}

static bool unmap(uintptr_t start, size_t span) {
    if (!os_unmap((void *)start, span))
        return false;
    directory_purge(start, start + span);
    return true;
}

/* A span that has left the tree goes back to the kernel; when that fails (no mapping left to split with) it returns as
 * a purged one. */
static void unmap_span(uintptr_t start, size_t span) {
    if (unmap(start, span))
        return;
    bool zeroed = os_purge((void *)start, span);
    if (!lock_with_spares())
        return; /* lost: addresses, perhaps pages, and no way to note them */
    spans_return(start, span, zeroed);
    lock_release(&lock);
}

static void give_locked(struct node *node) {
    directory_forget_large(node->start, node);
    add_live(-1, -(ptrdiff_t)node->span);
    spans_cache(node);
}

void large_give_retired_locked(struct node *node) {
    if (LIKELY(load_relaxed(&node->kind) == LARGE_RETIRED))
        give_locked(node);
}

static COLD void give_guarded_unlocking(struct node *node) {
    uintptr_t start = node->start;
    size_t span = node->span;
    size_t behind = guards_behind(node);
    directory_forget_large(start, node);
    add_live(-1, -(ptrdiff_t)span);
    account_add_large_resident(-(ptrdiff_t)span);
    sub_relaxed(&guarded_count, 1);
    spans_remove(node);
    lock_release(&lock);
    size_t page = os_page_size();
    if (!unmap(start - page, page + span + behind))
        unmap_span(start, span); /* the guards stay, of no use to anybody */
}

/* A purged span keeps its addresses, unless there is enough of that: of small ones at the edge of what is ours, where
 * no hole is made, after an eighth of it, as blocks that grow and move leave ever more of them. */
static bool is_worth_keeping(const struct node *node, size_t keep_max) {
    if (node->span >= LARGE_UNMAP_MIN)
        return spans_purged() <= keep_max;
    bool has_both = node->prev != NULL && spans_follow(node->prev, node) && spans_follow(node, node->next);
    return has_both || (node->span > SMALL_MAX && spans_purged() <= keep_max / 8);
}

/* Looked up now and then: limits change seldom, and asking takes two system calls. */
static size_t purged_max(void) {
    static _Atomic size_t known;
    static atomic_uint calls;
    if (add_relaxed(&calls, 1) % LIMIT_PERIOD == 0)
        store_relaxed(&known, min_size(LARGE_PURGED_MAX, os_memory_limit() / LARGE_PURGED_DIVISOR));
    return load_relaxed(&known);
}

static void remove_free(struct node *node) {
    if (load_relaxed(&node->kind) == LARGE_CACHED)
        account_add_large_resident(-(ptrdiff_t)node->span);
    spans_remove(node);
}

/* The lock is held at first, and released: the span of a node that is BUSY goes to the kernel. What cannot be purged
 * stays as it is, but for a short span: no request would find it. */
static void purge_unlocking(struct node *node) {
    uintptr_t start = node->start;
    size_t span = node->span;
    lock_begin_work(); /* large_reset_lock takes back the spans of others */
    lock_release(&lock);

    bool zeroed = os_purge((void *)start, span);
    size_t keep_max = purged_max();

    lock_acquire(&lock);
    lock_end_work();
    node = spans_purge_end(node, zeroed);
    start = node->start;
    span = node->span;
    bool kept = zeroed ? is_worth_keeping(node, keep_max) : span > SMALL_MAX;
    if (!kept)
        remove_free(node);
    lock_release(&lock);
    if (!kept)
        unmap_span(start, span);
}

/* Only blocks of a large alignment are so short. Their pages go at once, as those alone keep the gaps apart. */
static COLD void give_short_unlocking(struct node *node) {
    directory_forget_large(node->start, node);
    add_live(-1, -(ptrdiff_t)node->span);
    purge_unlocking(spans_purge_begin(node, node->span));
}

static bool give_of_kind(void *block, enum large_kind kind) {
    lock_acquire(&lock);
    struct node *node = find_start(block);
    if (node == NULL || !large_change_kind(node, (uint8_t)kind, LARGE_HELD)) {
        lock_release(&lock);
        return false;
    }
    if (UNLIKELY(node->guarded)) {
        give_guarded_unlocking(node);
        return true;
    }
    if (UNLIKELY(node->span <= SMALL_MAX)) {
        give_short_unlocking(node);
        return true;
    }
    give_locked(node);
    lock_release(&lock);
    return true;
}

bool large_give(void *block) {
    return give_of_kind(block, LARGE_LIVE);
}

bool large_give_held(void *block) {
    return give_of_kind(block, LARGE_HELD);
}

bool large_hold(void *block) {
    lock_acquire(&lock);
    struct node *node = find_live(block);
    bool held = node != NULL && large_change_kind(node, LARGE_LIVE, LARGE_HELD);
    lock_release(&lock);
    return held;
}

void large_set_size(void *block, size_t size) {
    lock_acquire(&lock);
    struct node *node = find_live(block);
    if (node != NULL)
        node->size = size;
    lock_release(&lock);
}

void large_guard_edges(void) {
    guard_edges = true;
}

/* ------------------------------------------------------------------------------------------------- resizing */

/* The pages behind `span` become a cached span of their own. */
static void cut_tail(struct node *node, size_t span) {
    size_t excess = node->span - span;
    node->span = span;
    struct node *tail = spans_add(node->start + span, excess);
    add_live(0, -(ptrdiff_t)excess);
    spans_cache(tail);
}

/* Takes the missing pages from free spans that follow. */
static bool absorb_next(struct node *node, size_t span) {
    size_t missing = span - node->span, found = 0;
    if (!spans_follow(node, node->next) || node->next->kind > LARGE_PURGED)
        return false;
    for (const struct node *last = node->next; (found += last->span) < missing; last = last->next)
        if (!spans_run_on(last))
            return false;
    bool zeroed;
    struct node *taken = spans_take(node->next, node->next->start, missing, &zeroed);
    add_live(0, (ptrdiff_t)taken->span);
    spans_absorb(node, taken);
    return true;
}

/* As large_fit. *old: the span before, 0: there is no such live block. */
static bool fit(void *block, size_t size, size_t *old) {
    size_t span = large_span(size);
    bool has_spares = lock_with_spares();
    if (!has_spares) /* no node for a tail: a smaller block keeps its pages */
        lock_acquire(&lock);
    struct node *node = find_live(block);
    *old = node == NULL ? 0 : node->span;
    bool fits = node != NULL && (span <= *old || (has_spares && absorb_next(node, span)));
    if (fits) {
        if (has_spares && span < *old && size < node->size)
            cut_tail(node, span);
        store_relaxed(&node->size, size);
    }
    lock_release(&lock);
    return fits;
}

bool large_fit(void *block, size_t size) {
    size_t old_span;
    return fit(block, size, &old_span);
}

void *large_resize(void *block, size_t size, bool may_move) {
    size_t span = large_span(size), old_span;
    if (fit(block, size, &old_span))
        return block;
    if (old_span == 0)
        return NULL;
    /* The block is the caller's, so that its span cannot change meanwhile. What grows once grows again: an eighth more
     * of addresses makes the system calls fewer, and costs no memory until it is used. */
    size_t ample = span + round_down(span / 8, os_page_size());
    bool grown = os_resize(block, old_span, ample) || os_resize(block, old_span, ample = span);
    if (!grown && !may_move)
        return NULL;
    size_t wanted = span;
    span = ample;
    lock_acquire(&lock);
    struct node *node = find_live(block);
    /* Freed by another thread meanwhile, which is the caller's fault; or a hole would be left among gaps: a mapping. */
    if (UNLIKELY(node == NULL || (!grown && node->sparse && node->span < LARGE_SPARSE_MAX))) {
        lock_release(&lock);
        return NULL;
    }
    if (!grown) {
        span = wanted + round_down(wanted / 8, os_page_size());
        void *moved = os_move(block, old_span, span);
        if (moved == NULL)
            moved = os_move(block, old_span, span = wanted);
        if (moved == NULL) {
            lock_release(&lock);
            return NULL;
        }
        directory_forget_large(node->start, node);
        spans_move(node, (uintptr_t)moved, span);
        directory_note_large(node->start, node);
        block = moved;
    }
    node->span = span;
    node->size = size;
    add_live(0, (ptrdiff_t)(span - old_span));
    account_add_large_resident((ptrdiff_t)(span - old_span));
    lock_release(&lock);
    return block;
}

/* -------------------------------------------------------------------------------------------------- looking */
const char *large_kind_name(enum large_kind kind) {
    static const char *const names[] = {
        [LARGE_CACHED] = "cached",    [LARGE_PURGED] = "purged",   [LARGE_BUSY] = "being purged",
        [LARGE_HELD] = "quarantined", [LARGE_RETIRED] = "retired", [LARGE_LIVE] = "live"};
    return names[kind];
}

/* Without the lock a thread may retire the block meanwhile, and revive the span with another size. If the kind is the
 * same before and after, then the size was that of a span of this kind at an instant in between. */
static struct large_view view_of(const struct node *node) {
    uint8_t kind = load_acquire(&node->kind), before;
    size_t size;
    do {
        before = kind;
        size = load_acquire(&node->size);
        kind = load_acquire(&node->kind);
    } while (UNLIKELY(kind != before));
    return (struct large_view){node->start, node->span, size, kind, guards_behind(node), node->retained, node->gap};
}

bool large_find(uintptr_t address, struct large_view *view) {
    lock_acquire(&lock);
    const struct node *node = spantree_find_floor(spans_root(), address);
    bool found = node != NULL && address - node->start < node->span;
    if (found)
        *view = view_of(node);
    lock_release(&lock);
    return found;
}

size_t large_list(uintptr_t from, struct large_view *views, size_t count) {
    size_t found = 0;
    lock_acquire(&lock);
    for (const struct node *node; found < count && (node = spantree_find_ceiling(spans_root(), from)) != NULL;
         from = node->start + 1)
        views[found++] = view_of(node);
    lock_release(&lock);
    return found;
}

/* -------------------------------------------------------------------------------------------------- purging */
uint64_t large_oldest(void) {
    return spans_oldest_stamp();
}

size_t large_purge_oldest(size_t bytes) {
    lock_acquire(&lock);
    struct node *node = spans_oldest();
    if (node == NULL) {
        lock_release(&lock);
        return 0;
    }
    size_t span = node->span;
    if (bytes < span && span - bytes >= PURGE_BYTES_MIN && spans_spare_count() > 0)
        span = min_size(span, round_up(max_size(bytes, PURGE_BYTES_MIN), os_page_size()));
    purge_unlocking(spans_purge_begin(node, span));
    return span;
}

bool large_unmap_free(bool gaps) {
    bool any = false;
    for (;;) {
        lock_acquire(&lock);
        struct node *node = spans_find_run(1);
        if (node == NULL && gaps)
            node = spans_find_gap(1);
        if (node == NULL) {
            lock_release(&lock);
            return any;
        }
        uintptr_t start = node->start;
        size_t span = node->span;
        remove_free(node);
        lock_release(&lock);
        if (!unmap(start, span)) {
            unmap_span(start, span);
            return any;
        }
        any = true;
    }
}

struct large_counts large_most(void) {
    lock_acquire(&lock);
    struct large_counts counts = most;
    lock_release(&lock);
    return counts;
}

struct lock_counts large_lock_counts(void) {
    return lock_counts_of(&lock);
}

/* ------------------------------------------------------------------------------------------------- validity */
bool large_is_valid(void) {
    lock_acquire(&lock);
    bool valid = spans_are_valid();
    lock_release(&lock);
    return valid;
}

/* ----------------------------------------------------------------------------------------------------- fork */
void large_lock(void) {
    lock_acquire(&lock);
}

void large_unlock(void) {
    lock_release(&lock);
}

void large_reset_lock(void) {
    spans_purge_undo();
    lock_reset(&lock);
}
