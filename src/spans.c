#include "spans.h"
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
static size_t purged;                              /* bytes of the purged spans */
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

/* ----------------------------------------------------------------------------------------------------- nodes */
struct node *spans_make_spare(void) {
    return metadata_take(sizeof(struct node));
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

struct node *spans_add(uintptr_t start, size_t span, enum large_kind kind) {
    struct node *node = take_spare();
    store_relaxed(&node->start, start);
    store_relaxed(&node->kind, (uint8_t)kind);
    store_relaxed(&node->size, 0);
    node->span = span;
    node->retained = node->guarded = false;
    spantree_insert(&root, node);
    purged += kind == LARGE_PURGED ? span : 0;
    return node;
}

static void drop(struct node *node) {
    release(node);
    spantree_remove(&root, node);
    spans_add_spare(node);
}

void spans_remove(struct node *node) {
    purged -= node->kind == LARGE_PURGED ? node->span : 0;
    drop(node);
}

struct node *spans_split(struct node *node, uintptr_t at) {
    size_t front = at - node->start;
    struct node *behind = take_spare();
    store_relaxed(&behind->start, at);
    store_relaxed(&behind->kind, load_relaxed(&node->kind));
    store_relaxed(&behind->size, 0);
    behind->span = node->span - front;
    behind->guarded = false;
    behind->retained = node->retained;
    if (node->retained) {
        behind->stamp = node->stamp;
        list_insert(&age, node, behind);
    }
    node->span = front;
    spantree_insert_after(&root, node, behind);
    spantree_refresh(node);
    return behind;
}

void spans_move(struct node *node, uintptr_t start, size_t span) {
    spantree_remove(&root, node);
    store_relaxed(&node->start, start);
    node->span = span;
    spantree_insert(&root, node);
}

/* ------------------------------------------------------------------------------------------------ free spans */
bool spans_follow(const struct node *node, const struct node *next) {
    return next != NULL && node->start + node->span == next->start;
}

static bool joins(const struct node *node, const struct node *next) {
    return spans_follow(node, next) && next->kind == node->kind;
}

void spans_absorb(struct node *node, struct node *next) {
    node->span += next->span;
    drop(next);
}

struct node *spans_coalesce(struct node *node) {
    struct node *prev = node->prev;
    if (joins(node, node->next))
        spans_absorb(node, node->next);
    if (prev != NULL && joins(prev, node)) {
        release(prev);
        spans_absorb(prev, node);
        node = prev;
    }
    spantree_refresh(node);
    return node;
}

void spans_cache(struct node *node) {
    node->kind = LARGE_CACHED;
    node->size = 0;
    retain(spans_coalesce(node));
}

struct node *spans_take(uintptr_t at, size_t span, bool *zeroed) {
    struct node *node = spantree_find_floor(root, at);
    if (node->start < at)
        node = spans_split(node, at);
    size_t cold = 0;
    for (struct node *part = node;; part = node->next) {
        size_t missing = part == node ? span : span - node->span;
        if (part->span > missing && spans_worth_cutting(part->span - missing, span))
            spans_split(part, part->start + missing);
        cold += part->kind == LARGE_PURGED ? part->span : 0;
        if (part == node)
            release(node);
        else
            spans_absorb(node, part);
        if (node->span >= span)
            break;
    }
    node->kind = LARGE_LIVE;
    spantree_refresh(node);
    purged -= cold;
    os_account_large_resident((ptrdiff_t)cold);
    *zeroed = cold == node->span;
    return node;
}

void spans_purge_begin(struct node *node) {
    release(node);
    os_account_large_resident(-(ptrdiff_t)node->span);
    node->kind = LARGE_BUSY;
    spantree_refresh(node);
    list_append(&busy, node);
}

void spans_purge_end(struct node *node, bool zeroed) {
    list_remove(&busy, node);
    node->kind = zeroed ? LARGE_PURGED : LARGE_CACHED;
    if (zeroed)
        purged += node->span;
    else
        os_account_large_resident((ptrdiff_t)node->span);
    spantree_refresh(node);
}

void spans_purge_undo(void) {
    while (busy.oldest != NULL) {
        struct node *node = busy.oldest;
        spans_purge_end(node, false);
        retain(node);
    }
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
    size_t retained = 0, cold = 0;
    for (const struct node *node = spantree_find_ceiling(root, 0); node != NULL; node = node->next) {
        if (node->start % os_page_size() != 0 || node->span % os_page_size() != 0 ||
            (node->kind == LARGE_LIVE && node->size > node->span) || (node->retained && node->kind != LARGE_CACHED))
            return false;
        retained += node->retained;
        cold += node->kind == LARGE_PURGED ? node->span : 0;
    }
    for (const struct node *node = age.oldest; node != NULL; node = node->newer)
        retained -= node->retained;
    return retained == 0 && cold == purged && spantree_is_valid(root);
}
