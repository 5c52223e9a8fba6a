#include "spantree.h"
#include "config.h"

static uint64_t priority_of(const struct node *node) {
    uint64_t x = node->start / KIB * UINT64_C(0x9E3779B97F4A7C15);
    return (x ^ x >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
}

static void update(struct node *node) {
    for (unsigned kind = 0; kind < SPAN_FITS; kind++) {
        size_t fit = node->kind == kind ? node->span : 0;
        if (node->left != NULL)
            fit = max_size(fit, node->left->fit[kind]);
        if (node->right != NULL)
            fit = max_size(fit, node->right->fit[kind]);
        node->fit[kind] = fit;
    }
}

static void split(struct node *tree, uintptr_t at, struct node **below, struct node **above) {
    if (tree == NULL) {
        *below = *above = NULL;
    } else if (tree->start < at) {
        *below = tree;
        split(tree->right, at, &tree->right, above);
        update(tree);
    } else {
        *above = tree;
        split(tree->left, at, below, &tree->left);
        update(tree);
    }
}

static struct node *join(struct node *below, struct node *above) {
    if (below == NULL || above == NULL)
        return below == NULL ? above : below;
    struct node *top = priority_of(below) > priority_of(above) ? below : above;
    if (top == below)
        top->right = join(top->right, above);
    else
        top->left = join(below, top->left);
    update(top);
    return top;
}

static struct node *insert(struct node *tree, struct node *node) {
    if (tree == NULL || priority_of(node) > priority_of(tree)) {
        split(tree, node->start, &node->left, &node->right);
        tree = node;
    } else if (node->start < tree->start) {
        tree->left = insert(tree->left, node);
    } else {
        tree->right = insert(tree->right, node);
    }
    update(tree);
    return tree;
}

void spantree_insert(struct node **root, struct node *node) {
    *root = insert(*root, node);
}

static struct node *without(struct node *tree, const struct node *node) {
    if (tree == node)
        return join(tree->left, tree->right);
    if (node->start < tree->start)
        tree->left = without(tree->left, node);
    else
        tree->right = without(tree->right, node);
    update(tree);
    return tree;
}

void spantree_remove(struct node **root, const struct node *node) {
    *root = without(*root, node);
}

void spantree_refresh(struct node *tree, const struct node *node) {
    if (node->start < tree->start)
        spantree_refresh(tree->left, node);
    else if (node->start > tree->start)
        spantree_refresh(tree->right, node);
    update(tree);
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

struct node *spantree_find_fit(struct node *root, unsigned kind, size_t span) {
    struct node *node = root;
    if (node == NULL || node->fit[kind] < span)
        return NULL;
    for (;;) {
        if (node->left != NULL && node->left->fit[kind] >= span)
            node = node->left;
        else if (node->kind == kind && node->span >= span)
            return node;
        else
            node = node->right;
    }
}

static bool subtree_is_valid(struct node *node, uintptr_t *end) {
    if (node == NULL)
        return true;
    size_t fit[SPAN_FITS] = {node->fit[0], node->fit[1]};
    if (!subtree_is_valid(node->left, end) || node->start < *end || node->span == 0)
        return false;
    if ((node->left != NULL && priority_of(node->left) > priority_of(node)) ||
        (node->right != NULL && priority_of(node->right) > priority_of(node)))
        return false;
    *end = node->start + node->span;
    update(node);
    return fit[0] == node->fit[0] && fit[1] == node->fit[1] && subtree_is_valid(node->right, end);
}

bool spantree_is_valid(struct node *root) {
    uintptr_t end = 0;
    return subtree_is_valid(root, &end);
}
