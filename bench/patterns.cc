// Patterns of use of blocks of all sizes: the families small, realloc and large.
#include "suite.h"

#include <cstring>
#include <map>

namespace suite {

namespace {

// ------------------------------------------------------------------------------------------------------ small

void pair(State &state) {
    uint64_t done = 0;
    for (auto _ : state) {
        for (size_t i = 0; i < CHUNK; i++)
            std::free(obtain(64));
        done += CHUNK;
    }
    count(state, done);
}

enum Order { FIFO, LIFO, SHUFFLED };

template <Order order> void batch(State &state) {
    constexpr size_t OUT = 1000;
    static_assert(OUT % 7 != 0, "steps of 7 must reach every block");
    void *out[OUT];
    uint64_t done = 0;
    for (auto _ : state) {
        for (void *&block : out)
            block = obtain(64);
        for (size_t i = 0; i < OUT; i++)
            std::free(out[order == FIFO ? i : order == LIFO ? OUT - 1 - i : i * 457 % OUT]);
        done += OUT;
    }
    count(state, done);
}

template <size_t total> void replace_common(State &state) {
    Random random(state.thread_index());
    run_replace(state, within(total, LARGEST), random, [&random] { return obtain(common_size(random)); });
}

// Blocks of which few fit a thread's cache.
template <size_t slots, size_t first, size_t last> void replace_between(State &state) {
    Random random(state.thread_index());
    run_replace(state, within(slots, last), random, [&random] { return obtain(random.even(first, last)); });
}

// Sizes on both sides of a boundary that many allocators have.
template <size_t size> void around(State &state) {
    constexpr size_t OUT = 16;
    void *out[OUT];
    uint64_t done = 0;
    within(OUT * static_cast<size_t>(state.threads()), size + 1);
    for (auto _ : state) {
        for (size_t i = 0; i < OUT; i++)
            out[i] = obtain(size + i % 2);
        for (void *block : out)
            std::free(block);
        done += OUT;
    }
    count(state, done);
}

void zeroed(State &state) {
    Random random(state.thread_index());
    run_replace(state, within(1000, 4096), random, [&random] { return touched(std::calloc(1, random.octave(16, 8))); });
}

void aligned(State &state) {
    Random random(state.thread_index());
    run_replace(state, within(1000, 8192), random, [&random] {
        const size_t alignment = size_t{32} << random.below(8);
        void *block = nullptr;
        if (posix_memalign(&block, alignment, random.octave(16, 8)) != 0)
            die("posix_memalign failed: too little memory?");
        return touched(block);
    });
}

// operator new and delete, by way of a container: a node and its string.
void cpp_map(State &state) {
    Random random(state.thread_index());
    const size_t entries = share(state, within(10000, 256));
    std::map<size_t, std::string> map;
    uint64_t done = 0;
    for (auto _ : state) {
        for (size_t i = 0; i < CHUNK; i++) {
            const size_t key = random.below(2 * entries);
            auto found = map.find(key);
            if (found == map.end())
                map.emplace(key, std::string(random.even(16, 127), 'x'));
            else
                map.erase(found);
        }
        done += CHUNK;
    }
    count(state, done);
}

// ---------------------------------------------------------------------------------------------------- realloc

// What is new is written, as by who appends to it.
void *grown(void *block, size_t old_size, size_t size) {
    block = std::realloc(block, size);
    if (!block)
        die("realloc returned NULL: too little memory?");
    std::memset(static_cast<char *>(block) + old_size, 1, size - old_size);
    return touched(block);
}

// Four vectors that grow side by side, to 32 MiB all together, since a lone block can be stretched for ever.
template <size_t numerator, size_t denominator> void vectors(State &state) {
    constexpr size_t SIDE_BY_SIDE = 4;
    const size_t limit = share(state, within(SIDE_BY_SIDE, 8 << 20) * (8 << 20)) / SIDE_BY_SIDE;
    uint64_t steps = 0;
    auto grow = [&] {
        void *side_by_side[SIDE_BY_SIDE] = {};
        for (size_t old_size = 0, size = 64; size <= limit; old_size = size, size = size * numerator / denominator)
            for (void *&vector : side_by_side) {
                vector = grown(vector, old_size, size);
                steps++;
            }
        meet();
        for (void *vector : side_by_side)
            std::free(vector);
    };
    grow(); // the first time is another thing: its pages are new
    steps = 0;
    for (auto _ : state)
        grow();
    count(state, steps);
}

void string_by_bytes(State &state) {
    constexpr size_t LENGTH = 4096;
    uint64_t done = 0;
    for (auto _ : state) {
        void *string = nullptr;
        for (size_t length = 1; length <= LENGTH; length++, done++)
            string = grown(string, length - 1, length);
        std::free(string);
    }
    count(state, done);
}

// ------------------------------------------------------------------------------------------------------ large

template <size_t size> void large_pair(State &state) {
    const size_t threads = static_cast<size_t>(state.threads());
    const size_t bytes = within(threads * (size >> 12), 1 << 12) * (1 << 12) / threads;
    uint64_t done = 0;
    for (auto _ : state) {
        for (size_t i = 0; i < 10; i++)
            std::free(obtain(bytes));
        done += 10;
    }
    count(state, done);
}

// Blocks that are used: every page of them is written.
void used(State &state) {
    constexpr size_t MOST = 4 << 20;
    Random random(state.thread_index());
    Slots slots(share(state, within(16, MOST)));
    auto obtain_written = [&random] {
        const size_t size = random.octave(64 << 10, 6);
        return written(std::malloc(size), size);
    };
    for (size_t i = 0; i < slots.count(); i++)
        slots[i] = obtain_written();
    uint64_t done = 0;
    for (auto _ : state) {
        replace(slots, random, 1, obtain_written);
        done++;
    }
    count(state, done);
}

} // namespace

void add_small() {
    const char *out_and_back = "1,000 blocks of 64 bytes out, then back";
    add("small", "pair", "pair", "64 bytes, freed at once", pair).is_hot();
    add("small", "batch-fifo", "pair", out_and_back, batch<FIFO>).is_hot();
    add("small", "batch-lifo", "pair", "the same, the last one first", batch<LIFO>);
    add("small", "batch-random", "pair", "the same, in random order", batch<SHUFFLED>);
    add("small", "replace-1k", "pair", "1,000 slots of 16 to 527 bytes, replaced at random", replace_common<1000>);
    add("small", "replace-10k", "pair", "10,000 such slots", replace_common<10000>).is_hot();
    add("small", "replace-100k", "pair", "100,000 such slots", replace_common<100000>);
    add("small", "replace-1m", "pair", "1,000,000 such slots", replace_common<1000000>).times(500);
    add("small", "replace-to-32k", "pair", "1,000 slots of 1,000 to 32,000 bytes, replaced at random",
        replace_between<1000, 1000, 32000>);
    add("small", "replace-to-65k", "pair", "200 slots of 8,000 to 65,000 bytes, the same",
        replace_between<200, 8000, 65000>);
    add("small", "around-1k", "pair", "16 blocks of 1,024 and 1,025 bytes out, then back", around<1024>);
    add("small", "around-64k", "pair", "16 blocks of 65,536 and 65,537 bytes out, then back", around<65536>);
    add("small", "calloc", "pair", "1,000 slots of 16 to 4,095 zeroed bytes, replaced at random", zeroed);
    add("small", "aligned", "pair", "1,000 such slots, aligned to 32 to 4,096 bytes", aligned);
    add("small", "cpp-map", "update", "random insertions and erasures in a std::map of 10,000 strings", cpp_map);
}

void add_realloc() {
    add("realloc", "vector-2", "step", "four vectors grow to 8 MiB side by side, twofold each step", vectors<2, 1>)
        .around(open_gate, close_gate);
    add("realloc", "vector-1.5", "step", "the same, by half each step", vectors<3, 2>).around(open_gate, close_gate);
    add("realloc", "string", "step", "a string grows byte by byte to 4 KiB", string_by_bytes);
}

void add_large() {
    add("large", "128k", "pair", "128 KiB, a byte written, freed at once", large_pair<128 << 10>);
    add("large", "1m", "pair", "1 MiB, the same", large_pair<1 << 20>);
    add("large", "8m", "pair", "8 MiB, the same", large_pair<8 << 20>);
    add("large", "64m", "pair", "64 MiB, the same", large_pair<64 << 20>);
    add("large", "written", "pair", "16 slots of 64 KiB to 4 MiB, replaced at random, all pages written", used);
}

} // namespace suite
