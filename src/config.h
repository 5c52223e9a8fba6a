/*
 * The geometry and the limits, in one table, with the relations that must hold between them.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include "base.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* What user space can address: 47 bits on x86-64, 48 on aarch64 (a process gets more only by asking for it). */
#if defined(__x86_64__)
#define ADDRESS_BITS 47
#elif defined(__aarch64__)
#define ADDRESS_BITS 48
#else
#error "cadastre runs on x86-64 and aarch64"
#endif

/* ------------------------------------------------------------------------------------ builds for tests only
 * CADASTRE_CRAMPED: caches, zones and bounds so small that what is rare happens all the time. CADASTRE_PLANTED_*: a
 * fault, for the tests that must find it: locks that order nothing but themselves; a state that is written when the
 * block comes back to its slab, and not when it is freed. */
#ifdef CADASTRE_CRAMPED
#define CRAMPED_OR(cramped, full) (cramped)
#else
#define CRAMPED_OR(cramped, full) (full)
#endif
#ifdef CADASTRE_PLANTED_RACE
#define PLANTED_RACE true
#else
#define PLANTED_RACE false
#endif
#ifdef CADASTRE_PLANTED_DELAY
#define PLANTED_DELAY true
#else
#define PLANTED_DELAY false
#endif

/* ----------------------------------------------------------------------------------- blocks and classes */
#define BLOCK_ALIGN ((size_t)16)
#define TINY_MAX    ((size_t)1024)
#define SMALL_MAX   (64 * KIB)

#define LARGE_MAX ((size_t)1 << ADDRESS_BITS)

#define FINE_CLASSES 16 /* 16, 32, ... 256 */
#define FINE_MAX     256
#define DOUBLINGS    8 /* 512, 1024, ... 65536, eight classes each */
#define CLASSES      (FINE_CLASSES + 8 * DOUBLINGS)
#define TINY_CLASSES 32

/* ------------------------------------------------------------------------------------------------ zones */
#define UNIT_SHIFT     16
#define UNIT_SIZE      ((size_t)1 << UNIT_SHIFT)
#define ZONE_SHIFT     23
#define ZONE_SPAN      ((size_t)1 << ZONE_SHIFT) /* a zone starts on a multiple of this, and is no longer */
#define ZONE_UNITS     (ZONE_SPAN / UNIT_SIZE)
#define ZONE_SIZE_MIN  (512 * KIB) /* under RLIMIT_AS or RLIMIT_DATA */
#define ZONE_SIZE_MAX  CRAMPED_OR(ZONE_SIZE_MIN, ZONE_SPAN)
#define ZONE_LIMIT_DIV 32        /* a zone is at most this part of the limit */
#define ZONE_GUARD     UNIT_SIZE /* what a zone begins with: inaccessible */
#define CELL_SIZE      ((size_t)256)
#define CELLS_OFFSET   (9 * KIB) /* of the cells in the zone header: what comes before is struct zone */
/* Header units of a zone of n units: room for the states of a zone full of 16-byte blocks. */
#define HEADER_UNITS(n) (((n)*9 + ZONE_UNITS - 1) / ZONE_UNITS)

/* --------------------------------------------------------------------------------- arenas and caches */
#define ARENAS_MAX         64
#define ARENAS_PER_CPU     4
#define ARENAS_LIMIT_BYTES (64 * MIB) /* under RLIMIT_AS or RLIMIT_DATA: one arena for each of these */
#define GROWTH_SKIPS       64         /* tries to grow that are skipped after a refused one */
#define CARVE_TRIES        8          /* zones with idle units that are looked at for room before the arena grows */
#define ARENA_NONE         0xffff

#define MAGAZINE_ENTRIES_MIN  CRAMPED_OR(1, 16)
#define MAGAZINE_ENTRIES_MAX  CRAMPED_OR(4, 1024)
#define MAGAZINE_ENTRIES_SURE CRAMPED_OR(1, 8)        /* of the largest blocks, too, whatever their bytes */
#define REFILL_BYTES          CRAMPED_OR(64, 8 * KIB) /* of the blocks that one refill takes, or one block; ... */
#define REFILL_ENTRIES        CRAMPED_OR(2, 32)       /* ... of TINY so many, in so many bytes; ... */
#define REFILL_BYTES_MAX      CRAMPED_OR(128, 16 * KIB)
#define CACHES_FEW            CRAMPED_OR(2, 8) /* ... half of it, if more threads have caches; else more (tcache.c) */
#define MAGAZINE_BYTES_MAX    CRAMPED_OR(4 * KIB, 256 * KIB)  /* of the blocks that one magazine may hold */
#define TCACHE_BYTES_MAX      CRAMPED_OR(64 * KIB, 8 * MIB)   /* of the blocks that one thread's may hold, ... */
#define TCACHES_BYTES_MAX     CRAMPED_OR(256 * KIB, 32 * MIB) /* ... shared by all threads when they are many; ... */
#define TCACHE_BYTES_MIN      CRAMPED_OR(4 * KIB, 64 * KIB)   /* ... but so much, at the least */
#define SWEEP_PERIOD          CRAMPED_OR(2, 16)              /* refills and full magazines between looks at idle ones */
#define PARKED_BYTES_MAX      CRAMPED_OR(4 * KIB, 256 * KIB) /* of the blocks in a cache that waits for a thread */
#define LOOKED_AT_MAX         CRAMPED_OR(2, 8)               /* caches whose threads may have ended, at a time */
#define RETIRED_MAX           CRAMPED_OR(2, 16)              /* spans of LARGE blocks that one thread may keep */
#define RETIRED_FLUSH         (RETIRED_MAX / 4 + 1)          /* as many go to all when there are more */
#define OUTGOING_HINTS        CRAMPED_OR(2, 256)
#define OUTGOING_BUNDLES      CRAMPED_OR(4, 159)
#define OUTGOING_BYTES_MAX    CRAMPED_OR(8 * KIB, 96 * KIB)

/* --------------------------------------------------------------------------------------- what is kept */
/* Retained and claimed <= max(RETAINED_MIN + min(live of LARGE, RETAINED_LARGE_MAX), live / RETAINED_DIVISOR). */
#define RETAINED_MIN       CRAMPED_OR(256 * KIB, 8 * MIB)
#define RETAINED_DIVISOR   8
#define RETAINED_LARGE_MAX CRAMPED_OR(256 * KIB, 24 * MIB)
#define PEAK_DIVISOR       8 /* the most that was resident may be passed by this part of it, whatever is retained */
/* What is resident again SWING_AGAIN_MS after it was purged, at the most, is a swing: a part of it may be retained
 * beyond the bound, up to SWING_MAX together, until none of that was in use for SWING_UNUSED_MS. */
#define SWING_AGAIN_MS  20
#define SWING_UNUSED_MS 200
#define SWING_DIVISOR   8
#define SWING_MAX       CRAMPED_OR(256 * KIB, 72 * MIB)
#define PURGE_BYTES_MIN CRAMPED_OR(64 * KIB, 1 * MIB) /* beyond what is asked for, so as to ask less often */
#define PURGE_RUN_UNITS CRAMPED_OR(2, 16)             /* one madvise at the most */
#define LARGE_STEP_MAX  (1 * MIB) /* between lengths of LARGE spans, of which each doubling has eight up to there */
/* Purged LARGE spans keep their addresses. If that comes to more than LARGE_PURGED_MAX, or this part of a limit on
 * memory, one of LARGE_UNMAP_MIN is unmapped. A smaller one is only if that makes no hole, which would cost a mapping,
 * and from an eighth of that on. */
#define LARGE_PURGED_MAX     CRAMPED_OR(1 * MIB, 256 * MIB)
#define LARGE_PURGED_DIVISOR 8
#define LARGE_UNMAP_MIN      CRAMPED_OR(256 * KIB, 4 * MIB)
#define RUN_SPANS_MAX        CRAMPED_OR(3, 32) /* free spans side by side that serve a request together, about */
/* Between aligned LARGE blocks shorter than LARGE_SPARSE_MAX addresses are kept, for alignments up to LARGE_GAP_MAX. */
#define LARGE_SPARSE_MAX (2 * MIB)
#define LARGE_GAP_MAX    (64 * MIB)

_Static_assert(ZONE_UNITS == 128, "two words of unit bits");
_Static_assert(ZONE_UNITS - 1 - HEADER_UNITS(ZONE_UNITS) >= 100, "a zone holds 100 blocks of SMALL_MAX, one a unit");
_Static_assert((ZONE_UNITS - 1 - HEADER_UNITS(ZONE_UNITS)) * (UNIT_SIZE / TINY_MAX) >= 100, "and 100 of TINY_MAX");
_Static_assert(SMALL_MAX == FINE_MAX << DOUBLINGS, "the classes end where SMALL ends");
_Static_assert(TINY_MAX == FINE_MAX << ((TINY_CLASSES - FINE_CLASSES) / 8), "and TINY ends at the end of a doubling");
_Static_assert(SMALL_MAX <= UNIT_SIZE, "a slab is one unit");
_Static_assert(UNIT_SIZE % (64 * KIB) == 0, "units are page multiples with 4, 16 and 64 KiB pages");
_Static_assert(ZONE_GUARD == UNIT_SIZE, "the guard is the first unit");
_Static_assert(CLASSES <= UINT8_MAX, "a class fits a byte");

#endif
