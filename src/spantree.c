#include "spantree.h"
#include "config.h"
#include <string.h>

static uint64_t priority_of(const struct node *node) {
    uint64_t x = node->start / KIB * UINT64_C(0x9E3779B97F4A7C15);
    return (x ^ x >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
}

static bool is_free(const struct node *node) {
    return load_relaxed(&node->kind) <= LARGE_PURGED;
}

/* The run that ends, and the one that begins, at the node's own ends, in its subtree. */
static size_t run_before(const struct node *node) {
    const struct node *left = node->left;
    return left != NULL && left->all.high == load_relaxed(&node->start) ? left->all.suffix : 0;
}

static size_t run_behind(const struct node *node) {
    const struct node *right = node->right;
    return right != NULL && right->all.low == load_relaxed(&node->start) + node->span ? right->all.prefix : 0;
}

/* Whether what is known of the node's subtree changed. */
static bool update(struct node *node) {
    static const struct node none;
    uintptr_t start = load_relaxed(&node->start), end = start + node->span;
    const struct node *left = node->left != NULL ? node->left : &none;
    const struct node *right = node->right != NULL ? node->right : &none;
    bool free = is_free(node);
    size_t before = free ? run_before(node) : 0, behind = free ? run_behind(node) : 0, own = free ? node->span : 0;
    size_t run = before + own + behind;
    struct subtree now = {
        .low = node->left != NULL ? left->all.low : start,
        .high = node->right != NULL ? right->all.high : end,
        .warm =
            max_size(load_relaxed(&node->kind) == LARGE_CACHED ? own : 0, max_size(left->all.warm, right->all.warm)),
        .run = max_size(run, max_size(left->all.run, right->all.run)),
    };
    now.prefix = free && start - before == now.low ? run : left->all.prefix;
    now.suffix = free && end + behind == now.high ? run : right->all.suffix;
    bool changed = memcmp(&now, &node->all, sizeof now) != 0;
    node->all = now;
    return changed;
}

/* Updates the first `sure` from `node` upwards, and more while there is news. */
static void update_upwards(struct node *node, unsigned sure) {
    for (; node != NULL; node = node->up, sure -= sure > 0)
        if (!update(node) && sure == 0)
            return;
}

void spantree_refresh(struct node *node) {
    update_upwards(node, 0);
}

static void replace_child(struct node **root, struct node *up, const struct node *old, struct node *new) {
    *(up == NULL ? root : up->left == old ? &up->left : &up->right) = new;
    if (new != NULL)
        new->up = up;
}

/* The node takes the place of its parent, which becomes its child. */
static void rotate(struct node **root, struct node *node) {
    struct node *parent = node->up;
    bool was_left = parent->left == node;
    struct node *inner = was_left ? node->right : node->left;
    replace_child(root, parent->up, parent, node);
    *(was_left ? &parent->left : &parent->right) = inner;
    if (inner != NULL)
        inner->up = parent;
    *(was_left ? &node->right : &node->left) = parent;
    parent->up = node;
    update(parent);
}

void spantree_insert_after(struct node **root, struct node *prev, struct node *node) {
    struct node *next = prev != NULL ? prev->next : spantree_find_ceiling(*root, 0);
    struct node *up = prev != NULL && prev->right == NULL ? prev : next;
    node->left = node->right = NULL;
    node->prev = prev;
    node->next = next;
    if (prev != NULL)
        prev->next = node;
    if (next != NULL)
        next->prev = node;
    node->up = up;
    *(up == NULL ? root : up == prev ? &up->right : &up->left) = node;
    while (node->up != NULL && priority_of(node) > priority_of(node->up))
        rotate(root, node);
    update_upwards(node, 2);
}

void spantree_insert(struct node **root, struct node *node) {
    spantree_insert_after(root, spantree_find_floor(*root, load_relaxed(&node->start)), node);
}

void spantree_remove(struct node **root, struct node *node) {
    unsigned moved = 0;
    for (; node->left != NULL || node->right != NULL; moved++) {
        bool left = node->right == NULL || (node->left != NULL && priority_of(node->left) > priority_of(node->right));
        rotate(root, left ? node->left : node->right);
    }
    replace_child(root, node->up, node, NULL);
    if (node->prev != NULL)
        node->prev->next = node->next;
    if (node->next != NULL)
        node->next->prev = node->prev;
    update_upwards(node->up, moved + 1);
}

struct node *spantree_find_floor(struct node *root, uintptr_t address) {
    struct node *best = NULL;
    for (struct node *node = root; node != NULL;) {
        if (node->start <= address) {
            best = node;
            node = node->right;
        } else {
            node = node->left;
        }
    }
    return best;
}

struct node *spantree_find_ceiling(struct node *root, uintptr_t address) {
    struct node *best = NULL;
    for (struct node *node = root; node != NULL;) {
        if (node->start >= address) {
            best = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return best;
}

struct node *spantree_find_exact(struct node *root, uintptr_t address) {
    struct node *node = spantree_find_floor(root, address);
    return node != NULL && node->start == address ? node : NULL;
}

struct node *spantree_find_warm(struct node *root, size_t span) {
    struct node *node = root;
    if (node == NULL || node->all.warm < span)
        return NULL;
    for (;;) {
        if (node->left != NULL && node->left->all.warm >= span)
            node = node->left;
        else if (load_relaxed(&node->kind) == LARGE_CACHED && node->span >= span)
            return node;
        else
            node = node->right;
    }
}

struct node *spantree_find_run(struct node *root, size_t span) {
    struct node *node = root;
    if (node == NULL || node->all.run < span)
        return NULL;
    for (;;) {
        if (node->left != NULL && node->left->all.run >= span) {
            node = node->left;
        } else if (is_free(node) && run_before(node) + node->span + run_behind(node) >= span) {
            return spantree_find_exact(root, load_relaxed(&node->start) - run_before(node));
        } else {
            node = node->right;
        }
    }
}

static bool subtree_is_valid(struct node *node, const struct node *up, struct node **last) {
    if (node == NULL)
        return true;
    if (node->up != up || (up != NULL && priority_of(up) < priority_of(node)))
        return false;
    if (!subtree_is_valid(node->left, node, last))
        return false;
    const struct node *prev = *last;
    if (node->prev != prev || node->span == 0)
        return false;
    if (prev != NULL && (prev->next != node || prev->start + prev->span > node->start))
        return false;
    *last = node;
    return subtree_is_valid(node->right, node, last) && !update(node);
}

bool spantree_is_valid(struct node *root) {
    struct node *last = NULL;
    return subtree_is_valid(root, NULL, &last) && (last == NULL || last->next == NULL);
}
