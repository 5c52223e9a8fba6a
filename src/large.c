#include "large.h"
#include "config.h"
#include "directory.h"
#include "message.h"
#include "metadata.h"
#include "os.h"
#include "spantree.h"

struct node_list {
    struct node *oldest;
    struct node *newest;
};

static struct lock lock = LOCK_INIT(LOCK_LARGE);
static struct node *root; /* this and the next four under lock */
static struct node_list age;
static struct node_list busy;
static struct node *spares; /* linked by left; kept for good, as a wrong free may yet look at one */
static unsigned spare_count;
static _Atomic uint64_t oldest_stamp = UINT64_MAX; /* written under lock */
static bool guard_edges;                           /* constant after boot */
static _Atomic size_t guarded_count;               /* live guarded blocks; written under lock */

#define SPARES_NEEDED 2 /* a span is split in three at the most */

/* Each takes two mappings, of which a process has 65,530. More blocks than these have no guards. */
#define GUARDED_MAX 16384

static struct node *find_live(const void *block) {
    struct node *node = spantree_find_exact(root, (uintptr_t)block);
    return node != NULL && node->kind == LARGE_LIVE ? node : NULL;
}

/* ------------------------------------------------------------------------------------------- lists and nodes */
static void list_append(struct node_list *list, struct node *node) {
    node->newer = NULL;
    node->older = list->newest;
    *(list->newest == NULL ? &list->oldest : &list->newest->newer) = node;
    list->newest = node;
}

static void list_remove(struct node_list *list, struct node *node) {
    *(node->older == NULL ? &list->oldest : &node->older->newer) = node->newer;
    *(node->newer == NULL ? &list->newest : &node->newer->older) = node->older;
}

static void publish_oldest(void) {
    store_relaxed(&oldest_stamp, age.oldest == NULL ? UINT64_MAX : age.oldest->stamp);
}

/* A CACHED node enters the age list, as the newest; and leaves it. Its bytes are retained in between. */
static void retain(struct node *node) {
    node->retained = true;
    node->stamp = os_stamp();
    list_append(&age, node);
    os_account_large_retained((ptrdiff_t)node->span);
    publish_oldest();
}

static void release(struct node *node) {
    if (!node->retained)
        return;
    node->retained = false;
    list_remove(&age, node);
    os_account_large_retained(-(ptrdiff_t)node->span);
    publish_oldest();
}

static void drop_node(struct node *node) {
    node->left = spares;
    spares = node;
    spare_count++;
}

static struct node *take_spare(void) {
    struct node *node = spares;
    spares = node->left;
    spare_count--;
    return node;
}

/* Takes the lock, with as many spare nodes there as any operation needs. false: no memory, and no lock held. */
static bool lock_with_spares(void) {
    lock_acquire(&lock);
    while (UNLIKELY(spare_count < SPARES_NEEDED)) {
        lock_release(&lock);
        struct node *node = metadata_take(sizeof *node);
        if (node == NULL)
            return false;
        lock_acquire(&lock);
        drop_node(node);
    }
    return true;
}

static struct node *add_node(uintptr_t start, size_t span, enum large_kind kind) {
    struct node *node = take_spare();
    store_relaxed(&node->start, start);
    store_relaxed(&node->kind, (uint8_t)kind);
    store_relaxed(&node->size, 0);
    node->span = span;
    node->retained = node->guarded = false;
    spantree_insert(&root, node);
    return node;
}

static void remove_node(struct node *node) {
    spantree_remove(&root, node);
    drop_node(node);
}

/* ---------------------------------------------------------------------------------- blocks found without the lock */
static struct node *find_noted(uintptr_t start) {
    struct node *node = directory_find_large(start);
    return node != NULL && load_relaxed(&node->start) == start ? node : NULL;
}

static bool change_kind(struct node *node, uint8_t from, uint8_t to) {
    return atomic_compare_exchange_strong_explicit(&node->kind, &from, to, memory_order_acq_rel, memory_order_relaxed);
}

struct node *large_retire(void *block, size_t span_max, size_t *span) {
    struct node *node = find_noted((uintptr_t)block);
    if (node == NULL || node->span > span_max || node->guarded)
        return NULL;
    *span = node->span;
    return change_kind(node, LARGE_LIVE, LARGE_RETIRED) ? node : NULL;
}

/* What is cut off when a span of `need` is cut from one with `excess` more: all that could serve another request, or
 * that would waste more than an eighth. */
static bool worth_cutting(size_t excess, size_t need) {
    return excess >= SMALL_MAX || excess > need / 8;
}

static size_t span_of(size_t size) {
    return round_up(size == 0 ? 1 : size, os_page_size());
}

bool large_fits(const struct node *node, size_t size) {
    size_t span = span_of(size);
    return node->span >= span && !worth_cutting(node->span - span, span);
}

void *large_revive(struct node *node, size_t size) {
    store_relaxed(&node->size, size);
    store_release(&node->kind, LARGE_LIVE);
    return (void *)load_relaxed(&node->start);
}

/* A free span that is in the tree joins its neighbours of the same kind; gives the node of the whole. */
static struct node *coalesce(struct node *node) {
    struct node *next = spantree_find_exact(root, node->start + node->span);
    if (next != NULL && next->kind == node->kind) {
        release(next);
        node->span += next->span;
        remove_node(next);
        spantree_refresh(root, node);
    }
    struct node *previous = spantree_find_floor(root, node->start - 1);
    if (previous != NULL && previous->kind == node->kind && previous->start + previous->span == node->start) {
        release(previous);
        previous->span += node->span;
        remove_node(node);
        node = previous;
        spantree_refresh(root, node);
    }
    return node;
}

/* A node that is in no list becomes a cached span. */
static void cache(struct node *node) {
    node->kind = LARGE_CACHED;
    node->size = 0;
    spantree_refresh(root, node);
    retain(coalesce(node));
}

/* ----------------------------------------------------------------------------------------- taking and giving */

/* A free node becomes live: from the first multiple of `alignment`, `span` bytes and what is not worth cutting. */
static struct node *take_node(struct node *node, size_t span, size_t alignment) {
    enum large_kind kind = node->kind;
    bool retained = node->retained;
    release(node);
    size_t head = round_up(node->start, alignment) - node->start;
    if (head > 0) {
        struct node *rest = add_node(node->start + head, node->span - head, kind);
        node->span = head;
        spantree_refresh(root, node);
        if (retained)
            retain(node);
        node = rest;
    }
    size_t excess = node->span - span;
    if (worth_cutting(excess, span)) {
        struct node *rest = add_node(node->start + span, excess, kind);
        node->span = span;
        if (retained)
            retain(rest);
    }
    node->kind = LARGE_LIVE;
    spantree_refresh(root, node);
    if (kind == LARGE_PURGED)
        os_account_large_resident((ptrdiff_t)node->span);
    return node;
}

static void *map_guarded(size_t span, size_t alignment) {
    size_t page = os_page_size();
    char *p = os_map_aligned(span + max_size(alignment, page) + page, alignment);
    if (p == NULL)
        return NULL;
    char *block = p + max_size(alignment, page); /* whose alignment leaves more than a page before it: it goes back */
    if (block - page > p)
        os_unmap(p, (size_t)(block - page - p));
    os_guard(block - page, page);
    os_guard(block + span, page);
    return block;
}

static void *take_guarded(size_t size, size_t span, size_t alignment) {
    char *block = map_guarded(span, alignment);
    if (block == NULL)
        return NULL;
    if (!lock_with_spares()) {
        os_unmap(block - os_page_size(), span + 2 * os_page_size());
        return NULL;
    }
    struct node *node = add_node((uintptr_t)block, span, LARGE_LIVE);
    node->size = size;
    node->guarded = true;
    add_relaxed(&guarded_count, 1);
    os_account_large_resident((ptrdiff_t)span);
    os_account_large_live((ptrdiff_t)span);
    lock_release(&lock);
    return block;
}

void *large_take(size_t size, size_t room, size_t alignment, bool *zeroed) {
    size_t span = span_of(room);
    size_t need = alignment > os_page_size() ? span + alignment - os_page_size() : span;
    if (UNLIKELY(guard_edges) && load_relaxed(&guarded_count) < GUARDED_MAX) {
        *zeroed = true;
        return take_guarded(size, span, alignment);
    }
    if (!lock_with_spares())
        return NULL;
    struct node *node = spantree_find_fit(root, LARGE_CACHED, need);
    if (node == NULL)
        node = spantree_find_fit(root, LARGE_PURGED, need);
    if (node != NULL) {
        *zeroed = node->kind == LARGE_PURGED;
        node = take_node(node, span, alignment);
    } else {
        lock_release(&lock);
        void *p = os_map_aligned(span, alignment);
        if (p == NULL)
            return NULL;
        directory_add((uintptr_t)p); /* or it is just not found without the lock */
        if (!lock_with_spares()) {
            os_unmap(p, span);
            return NULL;
        }
        *zeroed = true;
        node = add_node((uintptr_t)p, span, LARGE_LIVE);
        os_account_large_resident((ptrdiff_t)span);
    }
    node->size = size;
    directory_note_large(node->start, node);
    os_account_large_live((ptrdiff_t)node->span);
    void *block = (void *)node->start;
    lock_release(&lock);
    return block;
}

/* A span that has left the tree goes back to the kernel; when that fails (no mapping left to split with) it returns as
 * a purged one. */
static void unmap_span(uintptr_t start, size_t span) {
    if (os_unmap((void *)start, span))
        return;
    bool zeroed = os_purge((void *)start, span);
    if (!lock_with_spares())
        return; /* lost: addresses, perhaps pages, and no way to note them */
    add_node(start, span, zeroed ? LARGE_PURGED : LARGE_CACHED);
    lock_release(&lock);
}

/* Frees the node, the lock held at first and released here. */
static void give_unlocking(struct node *node) {
    directory_forget_large(node->start);
    uintptr_t start = node->start;
    size_t span = node->span;
    bool guarded = node->guarded;
    os_account_large_live(-(ptrdiff_t)span);
    if (LIKELY(!guarded)) {
        cache(node);
    } else {
        os_account_large_resident(-(ptrdiff_t)span);
        sub_relaxed(&guarded_count, 1);
        remove_node(node);
    }
    lock_release(&lock);
    size_t page = os_page_size();
    if (UNLIKELY(guarded) && !os_unmap((void *)(start - page), span + 2 * page))
        unmap_span(start, span); /* the guards stay, of no use to anybody */
}

static bool give_of_kind(void *block, enum large_kind kind) {
    lock_acquire(&lock);
    struct node *node = spantree_find_exact(root, (uintptr_t)block);
    if (node == NULL || !change_kind(node, (uint8_t)kind, LARGE_HELD)) {
        lock_release(&lock);
        return false;
    }
    give_unlocking(node);
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
    bool held = node != NULL && change_kind(node, LARGE_LIVE, LARGE_HELD);
    lock_release(&lock);
    return held;
}

void large_give_retired(struct node *node) {
    lock_acquire(&lock);
    give_unlocking(node);
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
    struct node *tail = add_node(node->start + span, node->span - span, LARGE_LIVE);
    os_account_large_live(-(ptrdiff_t)tail->span);
    node->span = span;
    cache(tail);
}

/* Takes the missing pages from a free span that follows. */
static bool absorb_next(struct node *node, size_t span) {
    struct node *next = spantree_find_exact(root, node->start + node->span);
    size_t missing = span - node->span;
    if (next == NULL || next->kind > LARGE_PURGED || next->span < missing)
        return false;
    struct node *taken = take_node(next, missing, os_page_size());
    node->span += taken->span;
    os_account_large_live((ptrdiff_t)taken->span);
    remove_node(taken);
    return true;
}

void *large_resize(void *block, size_t size, bool may_move) {
    size_t span = span_of(size);
    if (!lock_with_spares()) {
        /* No node for the tail: a smaller block keeps its pages. */
        lock_acquire(&lock);
        struct node *node = find_live(block);
        bool fits = node != NULL && node->span >= span;
        if (fits)
            node->size = size;
        lock_release(&lock);
        return fits ? block : NULL;
    }
    struct node *node = find_live(block);
    if (UNLIKELY(node == NULL)) {
        lock_release(&lock);
        return NULL;
    }
    size_t old_span = node->span;
    bool shrinks = size < node->size;
    bool done = span <= old_span || absorb_next(node, span);
    if (done) {
        if (span < old_span && shrinks)
            cut_tail(node, span);
        node->size = size;
        spantree_refresh(root, node);
    }
    lock_release(&lock);
    if (done)
        return block;
    /* The block is the caller's, so that its span cannot change meanwhile. What grows once grows again: an eighth more
     * of addresses makes the system calls fewer, and costs no memory until it is used. */
    size_t ample = span + round_down(span / 8, os_page_size());
    bool grown = os_resize(block, old_span, ample) || os_resize(block, old_span, ample = span);
    if (!grown && !may_move)
        return NULL;
    size_t wanted = span;
    span = ample;
    lock_acquire(&lock);
    node = find_live(block);
    if (UNLIKELY(node == NULL)) { /* freed by another thread meanwhile, which is the caller's fault */
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
        spantree_remove(&root, node);
        directory_forget_large(node->start);
        node->start = (uintptr_t)moved;
        node->span = span;
        spantree_insert(&root, node);
        directory_note_large(node->start, node);
        block = moved;
    }
    node->span = span;
    node->size = size;
    os_account_large_live((ptrdiff_t)(span - old_span));
    os_account_large_resident((ptrdiff_t)(span - old_span));
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

static struct large_view view_of(const struct node *node) {
    return (struct large_view){node->start, node->span, node->size, node->kind, node->guarded, node->retained};
}

bool large_find(uintptr_t address, struct large_view *view) {
    lock_acquire(&lock);
    const struct node *node = spantree_find_floor(root, address);
    bool found = node != NULL && address - node->start < node->span;
    if (found)
        *view = view_of(node);
    lock_release(&lock);
    return found;
}

size_t large_list(uintptr_t from, struct large_view *views, size_t count) {
    size_t found = 0;
    lock_acquire(&lock);
    for (const struct node *node; found < count && (node = spantree_find_ceiling(root, from)) != NULL;
         from = node->start + 1)
        views[found++] = view_of(node);
    lock_release(&lock);
    return found;
}

/* -------------------------------------------------------------------------------------------------- purging */
uint64_t large_oldest(void) {
    return load_relaxed(&oldest_stamp);
}

size_t large_purge_oldest(void) {
    lock_acquire(&lock);
    struct node *node = age.oldest;
    if (node == NULL) {
        lock_release(&lock);
        return 0;
    }
    uintptr_t start = node->start;
    size_t span = node->span;
    release(node);
    os_account_large_resident(-(ptrdiff_t)span);
    if (span >= LARGE_UNMAP_MIN) {
        remove_node(node);
        lock_release(&lock);
        unmap_span(start, span);
        return span;
    }
    node->kind = LARGE_BUSY;
    spantree_refresh(root, node);
    list_append(&busy, node);
    lock_release(&lock);

    bool zeroed = os_purge((void *)start, span);

    lock_acquire(&lock);
    list_remove(&busy, node);
    node->kind = zeroed ? LARGE_PURGED : LARGE_CACHED;
    spantree_refresh(root, node);
    uintptr_t whole = 0;
    size_t whole_span = 0;
    if (zeroed) {
        node = coalesce(node);
        if (node->span >= LARGE_UNMAP_MIN) {
            whole = node->start;
            whole_span = node->span;
            remove_node(node);
        }
    }
    lock_release(&lock);
    if (whole_span > 0)
        unmap_span(whole, whole_span);
    return span;
}

bool large_unmap_free(void) {
    bool any = false;
    for (;;) {
        lock_acquire(&lock);
        struct node *node = spantree_find_fit(root, LARGE_CACHED, 1);
        if (node == NULL)
            node = spantree_find_fit(root, LARGE_PURGED, 1);
        if (node == NULL) {
            lock_release(&lock);
            return any;
        }
        uintptr_t start = node->start;
        size_t span = node->span;
        if (node->kind == LARGE_CACHED)
            os_account_large_resident(-(ptrdiff_t)span);
        release(node);
        remove_node(node);
        lock_release(&lock);
        if (!os_unmap((void *)start, span)) {
            unmap_span(start, span);
            return any;
        }
        any = true;
    }
}

struct lock_counts large_lock_counts(void) {
    return lock_counts_of(&lock);
}

/* ------------------------------------------------------------------------------------------------- validity */
static bool nodes_are_valid(size_t *retained) {
    for (struct node *node = spantree_find_ceiling(root, 0); node != NULL;
         node = spantree_find_ceiling(root, node->start + 1)) {
        if (node->start % os_page_size() != 0 || node->span % os_page_size() != 0 ||
            (node->kind == LARGE_LIVE && node->size > node->span) || (node->retained && node->kind != LARGE_CACHED))
            return false;
        *retained += node->retained;
    }
    return true;
}

bool large_is_valid(void) {
    size_t retained = 0;
    lock_acquire(&lock);
    bool valid = spantree_is_valid(root) && nodes_are_valid(&retained);
    for (const struct node *node = age.oldest; node != NULL; node = node->newer)
        retained -= node->retained;
    lock_release(&lock);
    return valid && retained == 0;
}

/* ----------------------------------------------------------------------------------------------------- fork */
void large_lock(void) {
    lock_acquire(&lock);
}

void large_unlock(void) {
    lock_release(&lock);
}

void large_reset_lock(void) {
    while (busy.oldest != NULL) {
        struct node *node = busy.oldest;
        list_remove(&busy, node);
        node->kind = LARGE_CACHED;
        spantree_refresh(root, node);
        os_account_large_resident((ptrdiff_t)node->span);
        retain(node);
    }
    lock_reset(&lock);
}
