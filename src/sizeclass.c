#include "sizeclass.h"

/* The tables are constant expressions of these, spelled out by the compiler. */
#define SIZE_STEP(c)   ((uint32_t)FINE_MAX << ((c) < FINE_CLASSES ? 0 : ((c)-FINE_CLASSES) / 8) >> 3)
#define COARSE_SIZE(c) (SIZE_STEP(c) * 8 + SIZE_STEP(c) * (((c)-FINE_CLASSES) % 8 + 1))
#define SIZE(c)        ((c) < FINE_CLASSES ? 16u * ((c) + 1) : COARSE_SIZE(c))
#define LOG2(n)        (31 - __builtin_clz(n))
/* For n > FINE_MAX: the doubling by the top bit of n - 1, then the step within it. */
#define STEP_OF(n)      (((n)-1 - (1u << LOG2((n)-1))) >> (LOG2((n)-1) - 3))
#define COARSE_CLASS(n) (FINE_CLASSES + 8 * (LOG2((n)-1) - 8) + STEP_OF(n))
#define FINE_CLASS(n)   (((n) + 15) / 16 - ((n) > 0))
/* The branch not taken is compiled too, and may not take the logarithm of 0. */
#define CLASS(n) ((uint8_t)((n) <= FINE_MAX ? FINE_CLASS(n) : COARSE_CLASS((n) | 1024u * ((n) == 0))))

#define ROW(c)                                                                                                         \
    { SIZE(c), (uint32_t)(((UINT64_C(1) << 32) + SIZE(c) - 1) / SIZE(c)), UNIT_SIZE / SIZE(c) }
#define ROWS8(c) ROW(c), ROW(c + 1), ROW(c + 2), ROW(c + 3), ROW(c + 4), ROW(c + 5), ROW(c + 6), ROW(c + 7)
#define TINY(i)  CLASS(16u * (i))
#define TINY8(i) TINY(i), TINY(i + 1), TINY(i + 2), TINY(i + 3), TINY(i + 4), TINY(i + 5), TINY(i + 6), TINY(i + 7)
#define SMALL(i) CLASS(128u * ((i) + 1))
#define SMALL8(i)                                                                                                      \
    SMALL(i), SMALL(i + 1), SMALL(i + 2), SMALL(i + 3), SMALL(i + 4), SMALL(i + 5), SMALL(i + 6), SMALL(i + 7)
#define SMALL64(i)                                                                                                     \
    SMALL8(i), SMALL8(i + 8), SMALL8(i + 16), SMALL8(i + 24), SMALL8(i + 32), SMALL8(i + 40), SMALL8(i + 48),          \
        SMALL8(i + 56)

const struct sizeclass sizeclasses[CLASSES] = {ROWS8(0),  ROWS8(8),  ROWS8(16), ROWS8(24), ROWS8(32),
                                               ROWS8(40), ROWS8(48), ROWS8(56), ROWS8(64), ROWS8(72)};

const uint8_t sizeclass_of_tiny[TINY_MAX / 16 + 1] = {TINY8(0),  TINY8(8),  TINY8(16), TINY8(24), TINY8(32),
                                                      TINY8(40), TINY8(48), TINY8(56), TINY(64)};

const uint8_t sizeclass_of_small[SMALL_MAX / 128] = {SMALL64(0),   SMALL64(64),  SMALL64(128), SMALL64(192),
                                                     SMALL64(256), SMALL64(320), SMALL64(384), SMALL64(448)};
