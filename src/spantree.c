#include "spantree.h"
#include "config.h"

static uint64_t priority_of(const struct node *node) {
    return scatter(node->start / KIB);
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
    uint64_t priority = priority_of(node);
    while (node->up != NULL && priority > priority_of(node->up))
        rotate(root, node);
}

void spantree_insert(struct node **root, struct node *node) {
    spantree_insert_after(root, spantree_find_floor(*root, load_relaxed(&node->start)), node);
}

void spantree_remove(struct node **root, struct node *node) {
    while (node->left != NULL || node->right != NULL) {
        bool left = node->right == NULL || (node->left != NULL && priority_of(node->left) > priority_of(node->right));
        rotate(root, left ? node->left : node->right);
    }
    replace_child(root, node->up, node, NULL);
    if (node->prev != NULL)
        node->prev->next = node->next;
    if (node->next != NULL)
        node->next->prev = node->prev;
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

static bool is_placed(const struct node *node, const struct node *up) {
    return node->up == up && (up == NULL || priority_of(up) >= priority_of(node));
}

/* `prev` is the node before it. */
static bool is_in_order(const struct node *node, const struct node *prev) {
    return node->prev == prev && node->span != 0 &&
           (prev == NULL || (prev->next == node && prev->start + prev->span <= node->start));
}

/* Without recursion, as a stack has an end: down the left sides, and by way of `up`, which was looked at on the way
 * down, back to the right ones. */
bool spantree_is_valid(struct node *root) {
    const struct node *last = NULL; /* in order */
    const struct node *from = NULL; /* where the walk was before */
    bool goes_down = true;
    for (const struct node *node = root; node != NULL;) {
        const struct node *next = node->up;
        if (goes_down && !is_placed(node, from))
            return false;
        if (goes_down && node->left != NULL) {
            next = node->left;
        } else if (goes_down || from == node->left) {
            if (!is_in_order(node, last))
                return false;
            last = node;
            goes_down = node->right != NULL;
            next = goes_down ? node->right : node->up;
        }
        from = node;
        node = next;
    }
    return last == NULL || last->next == NULL;
}
