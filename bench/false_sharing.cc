// Threads that write to lines which the allocator has made neighbours.
#include "suite.h"

namespace suite {

namespace {

constexpr size_t TINY = 8, WRITES = 1000;

// Not inlined, so that all cases run the same instructions.
[[gnu::noinline]] void write_often(void *block) {
    for (size_t i = 0; i < WRITES; i++)
        ++*static_cast<volatile char *>(block);
}

void write_to_own_blocks(State &state) {
    uint64_t done = 0;
    for (auto _ : state) {
        void *block = obtain(TINY);
        write_often(block);
        std::free(block);
        done += WRITES;
    }
    count(state, done);
}

// Blocks that were allocated one after the other, for threads to free.
void *neighbours[64 * 64];

void allocate_neighbours(const State &state) {
    for (int i = 0; i < state.threads(); i++)
        neighbours[i] = obtain(TINY);
}

void free_then_write(State &state) {
    std::free(neighbours[state.thread_index()]);
    write_to_own_blocks(state);
}

// A line of data each, so that only metadata can be shared.
constexpr size_t LINE = 64, EACH = 64;

void allocate_lines(const State &state) {
    for (size_t i = 0; i < EACH * static_cast<size_t>(state.threads()); i++)
        neighbours[i] = obtain(LINE);
}

void free_lines(const State &state) {
    for (size_t i = 0; i < EACH * static_cast<size_t>(state.threads()); i++)
        std::free(neighbours[i]);
}

void replace_every_other(State &state) {
    const size_t stride = static_cast<size_t>(state.threads()), end = EACH * stride;
    uint64_t done = 0;
    for (auto _ : state) {
        for (size_t i = static_cast<size_t>(state.thread_index()); i < end; i += stride) {
            std::free(neighbours[i]);
            neighbours[i] = obtain(LINE);
        }
        done += EACH;
    }
    count(state, done);
}

} // namespace

void add_false_sharing() {
    add("false-sharing", "active", "write",
        "each thread writes 1,000 times to a block of 8 bytes of its own, then frees "
        "it and takes the next",
        write_to_own_blocks);
    add("false-sharing", "passive", "write",
        "the same, after each thread has freed one of a row of such blocks that "
        "another allocated",
        free_then_write)
        .around(allocate_neighbours);
    add("false-sharing", "metadata", "pair",
        "a row of blocks of 64 bytes, each thread frees and allocates its own in "
        "turn, one arena (CADASTRE_ARENAS=1)",
        replace_every_other)
        .around(allocate_lines, free_lines)
        .with("CADASTRE_ARENAS=1");
}

} // namespace suite
