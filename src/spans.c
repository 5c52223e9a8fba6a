#include "spans.h"
#include "account.h"
#include "config.h"
#include "metadata.h"
#include "os.h"

struct node_list {
    struct node *oldest;
    struct node *newest;
};

/* All under the lock of src/large.c. */
static struct node *root;
static struct node_list age;
static struct node_list busy; /* being purged */
static struct node *spares;   /* linked by left */
static unsigned spare_count;
static size_t purged;                              /* bytes of the purged spans that are no gaps */
static _Atomic uint64_t oldest_stamp = UINT64_MAX; /* written under the lock */

/* ------------------------------------------------------------------------------------------------------ ages */
/* Behind `older`; as the oldest where that is NULL. */
static void list_insert(struct node_list *list, struct node *older, struct node *node) {
    struct node **next = older == NULL ? &list->oldest : &older->newer;
    node->older = older;
    node->newer = *next;
    *(*next == NULL ? &list->newest : &(*next)->older) = node;
    *next = node;
}

static void list_append(struct node_list *list, struct node *node) {
    list_insert(list, list->newest, node);
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
    node->stamp = account_stamp();
    list_append(&age, node);
    account_add_large_retained((ptrdiff_t)node->span);
    publish_oldest();
}

static void release(struct node *node) {
    if (!node->retained)
        return;
    node->retained = false;
    list_remove(&age, node);
    account_add_large_retained(-(ptrdiff_t)node->span);
    publish_oldest();
}

/* ----------------------------------------------------------------------------------------------------- nodes */
struct node *spans_make_spare(void) {
    struct node *node = metadata_take(sizeof *node);
    if (node != NULL)
        node->bins[WARM_SPANS].length = node->bins[RUNS].length = node->bins[GAPS].length = 0;
    return node;
}

void spans_add_spare(struct node *node) {
    node->left = spares;
    spares = node;
    spare_count++;
}

unsigned spans_spare_count(void) {
    return spare_count;
}

static struct node *take_spare(void) {
    struct node *node = spares;
    spares = node->left;
    spare_count--;
    return node;
}

struct node *spans_add(uintptr_t start, size_t span) {
    struct node *node = take_spare();
    store_relaxed(&node->start, start);
    store_relaxed(&node->kind, LARGE_LIVE);
    store_relaxed(&node->size, 0);
    node->span = span;
    node->retained = node->guarded = node->gap = node->sparse = node->begins_run = false;
    spantree_insert(&root, node);
    return node;
}

/* A node leaves all that it is in but runs. */
static void drop(struct node *node) {
    release(node);
    spanbins_remove(WARM_SPANS, node);
    spantree_remove(&root, node);
    spans_add_spare(node);
}

void spans_move(struct node *node, uintptr_t start, size_t span) {
    spantree_remove(&root, node);
    store_relaxed(&node->start, start);
    node->span = span;
    spantree_insert(&root, node);
}

bool spans_follow(const struct node *node, const struct node *next) {
    return node != NULL && next != NULL && node->start + node->span == next->start;
}

void spans_absorb(struct node *node, struct node *next) {
    node->span += next->span;
    drop(next);
}

/* ------------------------------------------------------------------------------------------------------ runs */
static bool is_free(const struct node *node) {
    return load_relaxed(&node->kind) <= LARGE_PURGED;
}

static bool is_purged(const struct node *node) {
    return load_relaxed(&node->kind) == LARGE_PURGED;
}

/* Its bytes in `purged`. */
static size_t counted(const struct node *node) {
    return is_purged(node) && !node->gap ? node->span : 0;
}

static bool are_one_run(const struct node *node, const struct node *next) {
    return spans_follow(node, next) && is_free(node) && is_free(next) && !next->begins_run;
}

static struct node *first_of_run(struct node *node) {
    while (are_one_run(node->prev, node))
        node = node->prev;
    return node;
}

static void forget_run(struct node *node) {
    struct node *first = first_of_run(node);
    spanbins_remove(RUNS, first);
    spanbins_remove(GAPS, first);
}

/* If it is not noted. */
static void note_run(struct node *node) {
    struct node *first = first_of_run(node);
    size_t length = first->span;
    if (first->bins[RUNS].length != 0 || first->bins[GAPS].length != 0)
        return;
    for (const struct node *last = first; are_one_run(last, last->next); last = last->next)
        length += last->next->span;
    spanbins_add(first->gap && first->span == length ? GAPS : RUNS, first, length);
}

/* The free spans beside this one; NULL: there is none. */
static struct node *free_before(const struct node *node) {
    return spans_follow(node->prev, node) && is_free(node->prev) ? node->prev : NULL;
}

static struct node *free_behind(const struct node *node) {
    return spans_follow(node, node->next) && is_free(node->next) ? node->next : NULL;
}

/* Before a span becomes free or ceases to be: its own run, or those on both sides, are not what they were. And after:
 * they are noted as they are now. */
static void forget_runs(struct node *node) {
    if (is_free(node)) {
        forget_run(node);
        return;
    }
    if (free_before(node) != NULL)
        forget_run(node->prev);
    if (free_behind(node) != NULL)
        forget_run(node->next);
}

static void note_runs(struct node *node) {
    if (is_free(node))
        note_run(node);
    if (free_before(node) != NULL)
        note_run(node->prev);
    if (free_behind(node) != NULL)
        note_run(node->next);
}

/* Of a span that became free: its run is cut before or behind it where it would be too long, as a run is walked each
 * time that a part of it changes. */
static void limit_run(struct node *node) {
    struct node *behind = free_behind(node);
    size_t before = 0, after = 0;
    for (const struct node *at = node; are_one_run(at->prev, at); at = at->prev)
        before++;
    if (before >= RUN_SPANS_MAX) {
        node->begins_run = true;
        before = 0;
    }
    for (const struct node *at = node; are_one_run(at, at->next); at = at->next)
        after++;
    if (before + after >= RUN_SPANS_MAX && behind != NULL)
        behind->begins_run = true;
}

bool spans_run_on(const struct node *node) {
    return are_one_run(node, node->next);
}

/* ------------------------------------------------------------------------------------------------ free spans */
void spans_remove(struct node *node) {
    struct node *before = free_before(node), *behind = free_behind(node);
    forget_runs(node);
    purged -= counted(node);
    drop(node);
    if (before != NULL)
        note_run(before);
    if (behind != NULL)
        note_run(behind);
}

static bool joins(const struct node *node, const struct node *next) {
    return spans_follow(node, next) && load_relaxed(&next->kind) == load_relaxed(&node->kind) && next->gap == node->gap;
}

static struct node *coalesce(struct node *node) {
    struct node *prev = node->prev;
    if (joins(node, node->next))
        spans_absorb(node, node->next);
    if (!joins(prev, node))
        return node;
    release(prev);
    spanbins_remove(WARM_SPANS, prev);
    spans_absorb(prev, node);
    return prev;
}

static void end_gap(struct node *node) {
    node->gap = false;
    purged += counted(node);
}

static struct node *make_free(struct node *node, enum large_kind kind, bool coalesces) {
    struct node *before = free_before(node), *behind = free_behind(node);
    forget_runs(node);
    if (kind == LARGE_PURGED && !node->gap && before != NULL && before->gap)
        end_gap(before);
    if (kind == LARGE_PURGED && !node->gap && behind != NULL && behind->gap)
        end_gap(behind);
    if (behind != NULL) /* it was the first of a run; now they may be one */
        behind->begins_run = false;
    store_relaxed(&node->kind, (uint8_t)kind);
    if (coalesces)
        node = coalesce(node);
    limit_run(node);
    if (kind == LARGE_CACHED)
        spanbins_add(WARM_SPANS, node, node->span);
    note_runs(node);
    return node;
}

void spans_cache(struct node *node) {
    store_relaxed(&node->size, 0);
    retain(make_free(node, LARGE_CACHED, true));
}

struct node *spans_add_gap(uintptr_t start, size_t span) {
    struct node *node = spans_add(start, span);
    node->gap = true;
    return make_free(node, LARGE_PURGED, true);
}

/* Splits a free span; gives what begins at `at`, of the same age. */
static struct node *split(struct node *node, uintptr_t at) {
    size_t front = at - node->start;
    struct node *behind = take_spare();
    store_relaxed(&behind->start, at);
    store_relaxed(&behind->kind, load_relaxed(&node->kind));
    store_relaxed(&behind->size, 0);
    behind->span = node->span - front;
    behind->guarded = false;
    behind->gap = node->gap;
    behind->begins_run = false;
    behind->retained = node->retained;
    if (node->retained) {
        behind->stamp = node->stamp;
        list_insert(&age, node, behind);
    }
    node->span = front;
    spantree_insert_after(&root, node, behind);
    if (load_relaxed(&node->kind) == LARGE_CACHED) {
        spanbins_remove(WARM_SPANS, node);
        spanbins_add(WARM_SPANS, node, front);
        spanbins_add(WARM_SPANS, behind, behind->span);
    }
    return behind;
}

struct node *spans_find_warm(size_t span) {
    return spanbins_find(WARM_SPANS, span);
}

struct node *spans_find_run(size_t span) {
    return spanbins_find(RUNS, span);
}

struct node *spans_find_gap(size_t span) {
    return spanbins_find(GAPS, span);
}

struct node *spans_take(struct node *node, uintptr_t at, size_t span, bool *zeroed) {
    forget_runs(node);
    while (node->start + node->span <= at)
        node = node->next;
    if (node->start < at)
        node = split(node, at);
    size_t cold = 0;
    for (struct node *part = node;; part = node->next) {
        size_t missing = part == node ? span : span - node->span;
        if (part->span > missing && spans_worth_cutting(part->span - missing, span))
            split(part, part->start + missing);
        cold += is_purged(part) ? part->span : 0;
        purged -= counted(part);
        if (part != node) {
            spans_absorb(node, part);
        } else {
            release(node);
            spanbins_remove(WARM_SPANS, node);
        }
        if (node->span >= span)
            break;
    }
    node->gap = node->begins_run = false;
    store_release(&node->kind, LARGE_LIVE);
    note_runs(node);
    account_add_large_resident((ptrdiff_t)cold);
    *zeroed = cold == node->span;
    return node;
}

struct node *spans_purge_begin(struct node *node, size_t span) {
    if (span < node->span)
        node = split(node, node->start + node->span - span);
    forget_runs(node);
    release(node);
    spanbins_remove(WARM_SPANS, node);
    account_add_large_resident(-(ptrdiff_t)node->span);
    store_relaxed(&node->kind, LARGE_BUSY);
    note_runs(node);
    list_append(&busy, node);
    return node;
}

/* A span whose pages the kernel was given, and took or did not. */
static struct node *end_purge(struct node *node, bool zeroed) {
    if (zeroed)
        purged += node->span;
    else
        account_add_large_resident((ptrdiff_t)node->span);
    return make_free(node, zeroed ? LARGE_PURGED : LARGE_CACHED, zeroed);
}

struct node *spans_purge_end(struct node *node, bool zeroed) {
    list_remove(&busy, node);
    return end_purge(node, zeroed);
}

void spans_return(uintptr_t start, size_t span, bool zeroed) {
    end_purge(spans_add(start, span), zeroed);
}

void spans_purge_undo(void) {
    while (busy.oldest != NULL)
        retain(spans_purge_end(busy.oldest, false));
}

/* -------------------------------------------------------------------------------------------------- looking */
struct node *spans_oldest(void) {
    return age.oldest;
}

uint64_t spans_oldest_stamp(void) {
    return load_relaxed(&oldest_stamp);
}

size_t spans_purged(void) {
    return purged;
}

struct node *spans_root(void) {
    return root;
}

bool spans_are_valid(void) {
    size_t retained = 0, cold = 0, cached = 0, first = 0, gaps = 0, in_warm, in_runs, in_gaps;
    for (struct node *node = spantree_find_ceiling(root, 0); node != NULL; node = node->next) {
        bool is_cached = node->kind == LARGE_CACHED, begins = is_free(node) && !are_one_run(node->prev, node);
        if (node->start % os_page_size() != 0 || node->span % os_page_size() != 0 ||
            (node->kind == LARGE_LIVE && node->size > node->span) || (node->retained && !is_cached) ||
            (is_cached && node->bins[WARM_SPANS].length != node->span) || (node->gap && !is_purged(node)))
            return false;
        size_t length = is_free(node) ? node->span : 0;
        for (const struct node *last = node; begins && are_one_run(last, last->next); last = last->next)
            length += last->next->span;
        bool is_gap = node->gap && length == node->span && begins;
        if (begins && node->bins[is_gap ? GAPS : RUNS].length != length)
            return false;
        retained += node->retained;
        cold += counted(node);
        cached += is_cached;
        first += begins && !is_gap;
        gaps += is_gap;
    }
    for (const struct node *node = age.oldest; node != NULL; node = node->newer)
        retained -= node->retained;
    return retained == 0 && cold == purged && spantree_is_valid(root) && spanbins_are_valid(WARM_SPANS, &in_warm) &&
           spanbins_are_valid(RUNS, &in_runs) && spanbins_are_valid(GAPS, &in_gaps) && in_warm == cached &&
           in_runs == first && in_gaps == gaps;
}
