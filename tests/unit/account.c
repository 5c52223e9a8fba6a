/* The account by itself: what the contract asks back, and how it learns that what is live swings. */
#include "account.h"
#include "config.h"
#include "tap.h"

#include <time.h>

#define HEAP  ((ptrdiff_t)(RETAINED_MIN + 4 * SWING_MAX)) /* so much is live, then retained, then purged, and so on */
#define SLACK PURGE_BYTES_MIN

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void build(ptrdiff_t bytes) {
    ptrdiff_t reused = (ptrdiff_t)account_retained() < bytes ? (ptrdiff_t)account_retained() : bytes;
    account_add_retained(-reused);
    account_add_resident(bytes - reused);
    account_add_live(bytes);
}

/* Bit by bit, as a program frees. The most that was retained after any of them. */
static size_t drop(ptrdiff_t bytes) {
    size_t most = 0;
    for (ptrdiff_t step = bytes / 64; bytes > 0; bytes -= step) {
        account_add_live(-step);
        account_add_retained(step);
        size_t excess = min_size(account_excess(), account_retained());
        account_add_retained(-(ptrdiff_t)excess);
        account_add_resident(-(ptrdiff_t)excess);
        if (excess > 0)
            account_note_purged(excess);
        most = max_size(most, account_retained());
    }
    return most;
}

static size_t swing_once(void) {
    build(HEAP);
    return drop(HEAP);
}

static void contract(void) {
    size_t most = swing_once();
    ok(most <= max_size(RETAINED_MIN, (size_t)HEAP / RETAINED_DIVISOR) && account_swing() == 0,
       "a heap that is built once and freed leaves what the contract says: %zu KiB", account_retained() / KIB);
}

static void slow_swings(void) {
    for (int i = 0; i < 5; i++) {
        sleep_ms(2 * SWING_AGAIN_MS);
        swing_once();
    }
    ok(account_swing() == 0 && account_retained() <= RETAINED_MIN, "and so do swings that take long");
}

/* On a machine with much to do one or the other may take long. */
static size_t swing_until(size_t enough) {
    size_t count = 0;
    do
        swing_once();
    while (account_swing() < enough && ++count < 100000);
    return account_swing();
}

static void quick_swings(void) {
    size_t before = swing_until(1);
    ok(before > 0 && before <= (size_t)HEAP / SWING_DIVISOR, "of a quick swing a part may stay: %zu KiB of %zu",
       before / KIB, (size_t)HEAP / KIB);
    size_t most = swing_until(SWING_MAX - SWING_MAX / SWING_DIVISOR);
    ok(most > before && most <= SWING_MAX, "more of many, up to a bound: %zu KiB", most / KIB);
    ok(account_retained() <= RETAINED_MIN + most && account_retained() > RETAINED_MIN, "so much is retained");
    build((ptrdiff_t)account_retained());
    ok(account_excess() == 0 && account_swing() == most, "it stays while it is in use");
    sleep_ms(2 * SWING_UNUSED_MS);
    ok(account_excess() == 0 && account_swing() == most, "and when it is found in use, however late");
}

static void unused(void) {
    drop((ptrdiff_t)account_live());
    size_t retained = account_retained();
    sleep_ms(2 * SWING_UNUSED_MS);
    ok(account_excess() + RETAINED_MIN >= retained && account_swing() == 0, "what was not in use for a while goes");
}

static void own_bound(void) {
    account_set_retained_min(RETAINED_MIN + SLACK);
    for (int i = 0; i < 100; i++)
        swing_once();
    ok(account_swing() == 0 && account_retained() <= RETAINED_MIN + SLACK, "a bound that was asked for is kept");
}

int main(void) {
    contract();
    slow_swings();
    quick_swings();
    unused();
    own_bound();
    return tap_done();
}
