/*
 * What the families of cases (contention.cc, cross_thread.cc, ...) share. A case is a function of google-benchmark's
 * state, run by 1 to 64 threads at once; main.cc registers the cases, runs one in a process of its own, and says what
 * it cost. Nothing of the allocator's own is linked: the one that is preloaded is measured.
 *
 * Every case keeps to this, so that figures of different thread counts can be compared:
 *   - its total of blocks is divided among the threads, and bounded by a quarter of the memory that is available;
 *   - the arrays that hold its blocks do not lie in the heap that is measured;
 *   - it writes to each block, and has freed all of them when it ends.
 * Two families are for other questions, and are run by options of their own: growth (growth.cc), in which something
 * grows from case to case, and idle (idle.cc), whose blocks and threads may stay.
 */
#ifndef SUITE_H
#define SUITE_H

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace suite {

using benchmark::State;

[[noreturn]] void die(const std::string &what);

// ------------------------------------------------------------------------------------------------------ cases

inline const std::vector<int> ALONE = {1};
inline const std::vector<int> TO_8 = {1, 2, 4, 8};
inline const std::vector<int> TO_64 = {1, 2, 4, 8, 16, 32, 64};
inline const std::vector<int> TWO_TO_64 = {2, 4, 8, 16, 32, 64};

struct Case {
    using Hook = void (*)(const State &);

    std::string family, name, unit, what;
    std::function<void(State &)> run;
    std::vector<int> thread_counts;
    Hook before = nullptr, after = nullptr;   // around all threads
    std::string environment = "";             // NAME=VALUE... that scripts/bench sets, for every allocator alike
    std::string needs = "";                   // a symbol without which the case cannot be run
    size_t bytes = 0;                         // that must be available, where no less would do
    benchmark::IterationCount iterations = 0; // so many, where to prepare takes long; else as many as fill the time
    bool waits = false;  // for other processes: the wall clock counts though there is but one thread
    bool leaves = false; // blocks and threads behind, so that it is for a process of its own
    bool hot = false;    // hardly enters the kernel: its instructions are counted by scripts/bench --callgrind

    Case &around(Hook setup, Hook teardown = nullptr) {
        before = setup, after = teardown;
        return *this;
    }
    Case &with(const std::string &variable) {
        environment = variable;
        return *this;
    }
    Case &only_with(const std::string &symbol) {
        needs = symbol;
        return *this;
    }
    Case &holding(size_t most) {
        bytes = most;
        return *this;
    }
    Case &times(benchmark::IterationCount count) {
        iterations = count;
        return *this;
    }
    Case &waiting() {
        waits = true;
        return *this;
    }
    Case &leaving() {
        leaves = true;
        return *this;
    }
    Case &is_hot() {
        hot = true;
        return *this;
    }
    std::string full_name() const {
        return family + "/" + name;
    }
};

// `unit` is what one operation is, as in "ns per UNIT".
Case &add(const char *family, const std::string &name, const char *unit, const char *what,
          const std::function<void(State &)> &run, const std::vector<int> &thread_counts = TO_8);

void add_contention();
void add_cross_thread();
void add_false_sharing();
void add_small();
void add_realloc();
void add_large();
void add_process();
void add_map();
void add_growth();
void add_idle();

// Every thread says, once, how many operations it made.
inline void count(State &state, uint64_t operations) {
    state.counters["operations"] = static_cast<double>(operations);
}

// CPU time of the calling thread, in seconds.
double thread_cpu();

// ----------------------------------------------------------------------------------------------------- memory

// What a case may hold: a quarter of the memory that is available.
size_t memory_bound();

// As many of `blocks` blocks of at most `bytes` each as fit that bound, at least one.
size_t within(size_t blocks, size_t bytes);

// A thread's part of a total.
inline size_t share(const State &state, size_t total) {
    size_t part = total / static_cast<size_t>(state.threads());
    return part ? part : 1;
}

// Zeroed memory of the kernel's, apart from the heap.
void *map_pages(size_t bytes);
void unmap_pages(void *pages, size_t bytes);

// Writes to the block, as every caller of malloc does; volatile, so that no compiler drops block and pair.
inline void *touched(void *block) {
    if (!block)
        die("the allocator returned NULL: too little memory?");
    *static_cast<volatile char *>(block) = 1;
    return block;
}

// Every page is written, as every user of a large block does.
inline void *written(void *block, size_t size) {
    touched(block);
    for (size_t at = 0; at < size; at += 4096)
        static_cast<volatile char *>(block)[at] = 1;
    return block;
}

inline void *obtain(size_t size) {
    return touched(std::malloc(size));
}

// The blocks that a thread holds. Those that are left are freed with it.
class Slots {
  public:
    explicit Slots(size_t count) : count_(count), block_(static_cast<void **>(map_pages(count * sizeof(void *)))) {}
    ~Slots() {
        empty();
        unmap_pages(block_, count_ * sizeof(void *));
    }
    Slots(const Slots &) = delete;
    Slots &operator=(const Slots &) = delete;
    void *&operator[](size_t i) {
        return block_[i];
    }
    size_t count() const {
        return count_;
    }
    // Frees all, in order.
    void empty() {
        for (size_t i = 0; i < count_; i++) {
            std::free(block_[i]);
            block_[i] = nullptr;
        }
    }

  private:
    size_t count_;
    void **block_;
};

// Where all threads of a case meet, so that their blocks are live at the same time, whichever runs first.
void open_gate(const State &state);
void close_gate(const State &state);
void meet();

// ----------------------------------------------------------------------------------------------------- chance

// Knuth's MMIX generator: one multiplication, so that it weighs little beside malloc. The same numbers in every run.
class Random {
  public:
    explicit Random(int seed) : state_(static_cast<uint64_t>(seed) + 1) {}
    uint64_t next() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return state_ >> 16;
    }
    size_t below(size_t limit) {
        return static_cast<size_t>((next() & 0xffffffff) * limit >> 32);
    }
    // All sizes of first..last alike.
    size_t even(size_t first, size_t last) {
        return first + below(last - first + 1);
    }
    // All doublings alike: `smallest` (a power of two) up to, but not including, smallest << doublings.
    size_t octave(size_t smallest, unsigned doublings) {
        size_t octave = smallest << below(doublings);
        return octave + (next() & (octave - 1));
    }

  private:
    uint64_t state_;
};

// The mean program: many small blocks, of all sizes.
constexpr size_t SMALLEST = 16, LARGEST = 527;
inline size_t common_size(Random &random) {
    return random.even(SMALLEST, LARGEST);
}

// Replaces the block of a random slot, `times` times.
template <typename Obtain> void replace(Slots &slots, Random &random, size_t times, Obtain obtain_one) {
    for (size_t i = 0; i < times; i++) {
        void *&slot = slots[random.below(slots.count())];
        std::free(slot);
        slot = obtain_one();
    }
}

// Has cadastre print its map into /dev/null: for cases that are run only_with("show_alloc_mem").
void show_to_null();

// The case of random replacement: the slots are filled and replaced a few times over, so that what is measured is the
// long run.
constexpr size_t CHUNK = 1000;
template <typename Obtain> void run_replace(State &state, size_t total, Random &random, Obtain obtain_one) {
    Slots slots(share(state, total));
    for (size_t i = 0; i < slots.count(); i++)
        slots[i] = obtain_one();
    replace(slots, random, 2 * slots.count(), obtain_one);
    uint64_t done = 0;
    for (auto _ : state) {
        replace(slots, random, CHUNK, obtain_one);
        done += CHUNK;
    }
    count(state, done);
}

} // namespace suite

#endif
