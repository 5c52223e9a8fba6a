/* The bins of free spans, beside a list that is searched through. */
#include "spanbins.h"
#include "config.h"
#include "tap.h"

#define NODES 300
#define STEPS 20000

static struct node nodes[NODES];

static unsigned seed = 11;
static unsigned next_random(unsigned below) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

/* A page to 16 GiB: as many of each magnitude. */
static size_t random_length(void) {
    size_t pages = (size_t)1 << next_random(22);
    return (pages + next_random((unsigned)pages)) * 4 * KIB;
}

static size_t length_of(const struct node *node, enum spanbins set) {
    return node->bins[set].length;
}

/* What is found is long enough, and a quarter longer than the shortest that is at the most; and something is found
 * where there is one of twice the length. */
static bool finds(enum spanbins set, size_t length) {
    size_t best = SIZE_MAX, longest = 0;
    for (const struct node *node = nodes; node < nodes + NODES; node++) {
        longest = max_size(longest, length_of(node, set));
        if (length_of(node, set) >= length)
            best = min_size(best, length_of(node, set));
    }
    const struct node *found = spanbins_find(set, length);
    if (found == NULL)
        return longest < 2 * length;
    return length_of(found, set) >= length && length_of(found, set) <= best + best / 4 + 4 * KIB;
}

static void random_use(void) {
    size_t wrong = 0, invalid = 0, there = 0, counted;
    for (int step = 0; step < STEPS; step++) {
        struct node *node = &nodes[next_random(NODES)];
        if (length_of(node, RUNS) == 0) {
            spanbins_add(RUNS, node, random_length());
            there++;
        } else {
            spanbins_remove(RUNS, node);
            there--;
        }
        wrong += !finds(RUNS, random_length());
        if (step % 100 == 0)
            invalid += !spanbins_are_valid(RUNS, &counted) || counted != there;
    }
    ok(wrong == 0, "%d random steps: what is found is long enough, and not much too long", STEPS);
    ok(invalid == 0, "and every one of them is where it belongs");
}

static void apart(void) {
    struct node one = {0}, other = {0};
    size_t count;
    spanbins_add(WARM_SPANS, &one, 40 * KIB);
    spanbins_add(WARM_SPANS, &other, 44 * KIB);
    ok(spanbins_find(WARM_SPANS, 44 * KIB) == &other && spanbins_find(WARM_SPANS, 40 * KIB) == &one &&
           spanbins_find(WARM_SPANS, 48 * KIB) == NULL,
       "lengths of a page's difference are told apart");
    spanbins_add(RUNS, &one, MIB);
    spanbins_remove(WARM_SPANS, &one);
    spanbins_remove(WARM_SPANS, &one);
    ok(spanbins_find(RUNS, MIB / 2) != NULL && length_of(&one, RUNS) == MIB, "a span may be in both sets");
    spanbins_remove(RUNS, &one);
    spanbins_remove(WARM_SPANS, &other);
    ok(spanbins_are_valid(WARM_SPANS, &count) && count == 0 && spanbins_find(WARM_SPANS, 1) == NULL, "and leaves them");
}

int main(void) {
    apart();
    random_use();
    return tap_done();
}
