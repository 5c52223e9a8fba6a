// Many threads that have nothing to do with each other, but for the allocator.
#include "suite.h"

namespace suite {

static void one_size(State &state) {
    Random random(state.thread_index());
    run_replace(state, within(10000, 64), random, [] { return obtain(64); });
}

static void mixed_sizes(State &state) {
    Random random(state.thread_index());
    run_replace(state, within(10000, 4096), random, [&random] { return obtain(random.octave(16, 8)); });
}

// More at once than any thread's cache holds: all threads' out, then all back.
static void bursts(State &state) {
    Random random(state.thread_index());
    Slots slots(share(state, within(65536, LARGEST)));
    auto burst = [&] {
        for (size_t i = 0; i < slots.count(); i++)
            slots[i] = obtain(common_size(random));
        meet();
        slots.empty();
        meet();
    };
    burst(); // the first one is another thing: its pages are new
    uint64_t done = 0;
    for (auto _ : state) {
        burst();
        done += slots.count();
    }
    count(state, done);
}

static void large(State &state) {
    Random random(state.thread_index());
    run_replace(state, within(256, 1 << 20), random, [&random] { return obtain(random.octave(32 << 10, 5)); });
}

void add_contention() {
    add("contention", "one-size", "pair", "10,000 slots of 64 bytes, replaced at random", one_size, TO_64).is_hot();
    add("contention", "mixed-sizes", "pair", "10,000 slots of 16 to 4,095 bytes, replaced at random", mixed_sizes,
        TO_64);
    add("contention", "bursts", "pair", "65,536 blocks of 16 to 527 bytes out, then back in the same order", bursts,
        TO_64)
        .around(open_gate, close_gate);
    add("contention", "one-arena", "pair", "as bursts, with CADASTRE_ARENAS=1: a handicap that only cadastre has",
        bursts, TO_64)
        .around(open_gate, close_gate)
        .with("CADASTRE_ARENAS=1");
    add("contention", "large", "pair", "256 slots of 32 KiB to 1 MiB, replaced at random, a byte of each written",
        large, TO_64);
}

} // namespace suite
