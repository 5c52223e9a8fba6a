#include "account.h"
#include "clock.h"
#include "config.h"

/* Each line of memory has what is written on the same paths. */
#define LINE 64
static struct {
    _Alignas(LINE) _Atomic ptrdiff_t live;
    _Alignas(LINE) _Atomic ptrdiff_t retained;
    _Atomic ptrdiff_t resident;
} slabs;
static struct {
    _Alignas(LINE) _Atomic ptrdiff_t live;
    _Atomic ptrdiff_t retained;
    _Atomic ptrdiff_t resident;
} large;
static _Alignas(LINE) _Atomic uint64_t stamps;
static _Alignas(LINE) _Atomic size_t claimed; /* of what may be retained */
static _Atomic size_t resident_peak;          /* of what was resident when the excess was last asked for */
static _Atomic size_t retained_min = RETAINED_MIN;

/* Threads may spoil these for each other by a slab or two: nothing but the bound depends on them. */
static struct {
    _Atomic ptrdiff_t purged;   /* because of the contract, and not resident again since */
    _Atomic uint64_t purged_ms; /* when, last */
    _Atomic ptrdiff_t retained; /* what may be, beyond the bound */
    _Atomic uint64_t needed_ms; /* when it was in use, last */
    _Atomic ptrdiff_t max;
} swing = {.max = SWING_MAX};

/* `then` may be another thread's, and later. */
static bool is_past(_Atomic uint64_t *then, int64_t span_ms, uint64_t now) {
    return (int64_t)(now - load_relaxed(then)) > span_ms;
}

static COLD void note_resident_again(ptrdiff_t bytes, ptrdiff_t purged) {
    uint64_t now = clock_coarse_ms();
    if (is_past(&swing.purged_ms, SWING_AGAIN_MS, now)) {
        store_relaxed(&swing.purged, 0);
        return;
    }
    ptrdiff_t again = bytes < purged ? bytes : purged;
    ptrdiff_t retained = load_relaxed(&swing.retained) + again / SWING_DIVISOR;
    sub_relaxed(&swing.purged, again);
    if (retained <= load_relaxed(&swing.max))
        store_relaxed(&swing.retained, retained);
    store_relaxed(&swing.needed_ms, now);
}

INLINE void note_resident(ptrdiff_t change) {
    ptrdiff_t purged = load_relaxed(&swing.purged);
    if (UNLIKELY(purged > 0) && change > 0)
        note_resident_again(change, purged);
}

void account_note_purged(size_t bytes) {
    uint64_t now = clock_coarse_ms();
    if (is_past(&swing.purged_ms, SWING_AGAIN_MS, now))
        store_relaxed(&swing.purged, 0);
    store_relaxed(&swing.purged_ms, now);
    add_relaxed(&swing.purged, (ptrdiff_t)bytes);
}

size_t account_swing(void) {
    return (size_t)load_relaxed(&swing.retained);
}

/* All of it is in use whenever no more is retained than may be without it. */
static size_t update_swing(bool is_needed) {
    size_t retained = account_swing();
    if (LIKELY(retained == 0))
        return 0;
    uint64_t now = clock_coarse_ms();
    if (is_needed) {
        if (load_relaxed(&swing.needed_ms) != now) /* most often it is the same tick */
            store_relaxed(&swing.needed_ms, now);
    } else if (is_past(&swing.needed_ms, SWING_UNUSED_MS, now)) {
        store_relaxed(&swing.retained, 0);
        return 0;
    }
    return retained;
}

void account_add_live(ptrdiff_t change) {
    add_relaxed(&slabs.live, change);
}

void account_add_retained(ptrdiff_t change) {
    add_relaxed(&slabs.retained, change);
}

void account_add_resident(ptrdiff_t change) {
    add_relaxed(&slabs.resident, change);
    note_resident(change);
}

static void add_as_only_writer(_Atomic ptrdiff_t *bytes, ptrdiff_t change) {
    store_relaxed(bytes, load_relaxed(bytes) + change);
}

void account_add_large_live(ptrdiff_t change) {
    add_as_only_writer(&large.live, change);
}

void account_add_large_retained(ptrdiff_t change) {
    add_as_only_writer(&large.retained, change);
}

void account_add_large_resident(ptrdiff_t change) {
    add_as_only_writer(&large.resident, change);
    note_resident(change);
}

/* The halves of a transfer may be seen in either order: never show the negative sum in between. */
static size_t clamp(ptrdiff_t bytes) {
    return bytes < 0 ? 0 : (size_t)bytes;
}

size_t account_live(void) {
    return clamp(load_relaxed(&slabs.live) + load_relaxed(&large.live));
}

size_t account_retained(void) {
    return clamp(load_relaxed(&slabs.retained) + load_relaxed(&large.retained));
}

bool account_claim(size_t bytes, size_t max) {
    if (add_relaxed(&claimed, bytes) + bytes <= max)
        return true;
    sub_relaxed(&claimed, bytes);
    return false;
}

void account_disclaim(size_t bytes) {
    sub_relaxed(&claimed, bytes);
}

void account_set_claimed(size_t bytes) {
    store_relaxed(&claimed, bytes);
}

uint64_t account_stamp(void) {
    return add_relaxed(&stamps, 1);
}

static size_t resident_now(void) {
    return clamp(load_relaxed(&slabs.resident) + load_relaxed(&large.resident));
}

static bool is_beyond_peak(size_t resident, size_t peak) {
    return resident > peak + peak / PEAK_DIVISOR;
}

bool account_is_beyond_peak(void) {
    return is_beyond_peak(resident_now(), load_relaxed(&resident_peak));
}

size_t account_excess_of_peak(void) {
    size_t resident = resident_now();
    size_t peak = load_relaxed(&resident_peak);
    if (LIKELY(!is_beyond_peak(resident, peak)))
        return 0;
    size_t excess = min_size(account_retained(), (resident - peak) / 2);
    store_relaxed(&resident_peak, resident - excess);
    return excess;
}

size_t account_excess(void) {
    size_t retained = account_retained() + load_relaxed(&claimed);
    size_t bound = load_relaxed(&retained_min);
    if (retained > bound) {
        bound += min_size(clamp(load_relaxed(&large.live)), RETAINED_LARGE_MAX);
        bound = max_size(bound, account_live() / RETAINED_DIVISOR);
    }
    bound += update_swing(retained <= bound);
    return retained <= bound ? 0 : retained - bound + min_size(bound / 2, PURGE_BYTES_MIN);
}

void account_set_retained_min(size_t bytes) {
    store_relaxed(&swing.max, 0);
    store_relaxed(&swing.retained, 0);
    store_relaxed(&retained_min, bytes);
}
