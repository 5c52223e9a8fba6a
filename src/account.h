/*
 * The account of our memory, and how much of it is to go back to the kernel.
 *
 * Live: bytes of blocks that are out of their bitmaps, and of LARGE blocks. Retained: of empty slabs not purged, and of
 * cached LARGE spans. Resident: what is retained, and all slabs and LARGE blocks. They change on slow paths only. All
 * functions are safe in every thread at any time.
 */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "base.h"

void account_add_live(ptrdiff_t change);
void account_add_retained(ptrdiff_t change);
void account_add_resident(ptrdiff_t change);

/* The same for LARGE, whose lock the caller holds: that makes each a load and a store, where the others are atomic
 * additions, as any arena makes them. */
void account_add_large_live(ptrdiff_t change);
void account_add_large_retained(ptrdiff_t change);
void account_add_large_resident(ptrdiff_t change);

/* The sums. */
size_t account_live(void);
size_t account_retained(void);

/* Part of what may be retained, for what a thread keeps; false: all claims together would be above `max`. And back. */
bool account_claim(size_t bytes, size_t max);
void account_disclaim(size_t bytes);

/* In a child of fork, whose other threads vanished between a claim and the note of it: all that is claimed. */
void account_set_claimed(size_t bytes);

/* Orders what becomes empty: oldest, smallest. */
uint64_t account_stamp(void);

/* How many bytes are to be purged: 0, or once the contract's bound (config.h) is crossed what is retained beyond it,
 * and PURGE_BYTES_MIN more. */
size_t account_excess(void);

/* The same where resident bytes pass all that there ever were by an eighth: half of the new, if so much is retained.
 * Memory of one kind must not pile up on idle memory of another, but a swing of what is live finds its level. */
size_t account_excess_of_peak(void);

/* Whether they pass it so now. */
bool account_is_beyond_peak(void);

/*
 * What may be retained beyond the bound, since the contract has purged it and it was resident again at once: a swing of
 * what is live, which would pay for the same page faults each time. A part of what is so found comes to it each time,
 * so that a few swings are none; and all of it goes when it was not in use for a while.
 */
size_t account_swing(void);

/* So many bytes were purged because of account_excess. */
void account_note_purged(size_t bytes);

/* In place of RETAINED_MIN, from now on; and no swing is retained any more: who asks for a bound is to have it. */
void account_set_retained_min(size_t bytes);

#endif
