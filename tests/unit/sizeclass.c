/* The size-class arithmetic, exhaustively. */
#include "sizeclass.h"
#include "slab.h"
#include "tap.h"

static bool tightest(size_t size) {
    unsigned class = sizeclass_of(size);
    return sizeclasses[class].size >= size && (class == 0 || sizeclasses[class - 1].size < size);
}

static bool divides_exactly(const struct sizeclass *c) {
    for (uint64_t offset = 0; offset < UNIT_SIZE; offset++) {
        uint64_t product = offset * c->reciprocal;
        if (product >> 32 != offset / c->size || ((uint32_t)product < c->reciprocal) != (offset % c->size == 0))
            return false;
    }
    return true;
}

static bool aligned_is_tightest(size_t size, size_t alignment) {
    unsigned class = sizeclass_of_aligned(size, alignment);
    for (unsigned lower = 0; lower < class; lower++)
        if (sizeclasses[lower].size >= size && sizeclasses[lower].size % alignment == 0)
            return false;
    return sizeclasses[class].size >= size && sizeclasses[class].size % alignment == 0;
}

int main(void) {
    size_t wrong = 0;
    for (size_t size = 0; size <= SMALL_MAX; size++)
        wrong += !tightest(size);
    ok(wrong == 0, "every size from 0 to 64 KiB has the tightest class");

    wrong = 0;
    for (unsigned class = 0; class < CLASSES; class ++)
        wrong += !divides_exactly(&sizeclasses[class]);
    ok(wrong == 0, "every offset of every class: index by reciprocal, and whether it is a block's start");

    size_t misaligned = 0, gaps = 0, tails = 0, tiny = 0;
    for (unsigned class = 0; class < CLASSES; class ++) {
        const struct sizeclass *c = &sizeclasses[class];
        misaligned += c->size % BLOCK_ALIGN != 0 || (is_power_of_two(c->size) && UNIT_SIZE % c->size != 0);
        gaps += class > 0 && c->size <= sizeclasses[class - 1].size;
        /* slab_state_at reads one state behind the last block if the unit has a rest: it must be padding. */
        tails += c->blocks * c->size != UNIT_SIZE && c->blocks % 64 == 0;
        tiny += sizeclass_is_tiny(class) != (c->size <= TINY_MAX);
    }
    ok(misaligned == 0, "blocks are 16-byte aligned, power-of-two classes naturally");
    ok(gaps == 0, "classes ascend");
    ok(tails == 0, "the state behind the last block is padding");
    ok(tiny == 0 && sizeclasses[CLASSES - 1].size == SMALL_MAX, "TINY and SMALL end where they should");

    size_t waste = 0;
    for (size_t size = FINE_MAX + 1; size <= SMALL_MAX; size++)
        waste += (sizeclasses[sizeclass_of(size)].size - size) * 8 >= size;
    ok(waste == 0, "above 256 bytes less than an eighth of the request is wasted");

    wrong = 0;
    for (size_t alignment = BLOCK_ALIGN; alignment < UNIT_SIZE; alignment *= 2)
        for (size_t size = 0; size <= SMALL_MAX; size += size < 2048 ? 1 : 61)
            wrong += !aligned_is_tightest(size, alignment);
    ok(wrong == 0, "aligned requests get the tightest class that is a multiple of the alignment");
    return tap_done();
}
