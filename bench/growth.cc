/*
 * What an operation costs as there is more and more of something: the family growth. A number at the end of a case's
 * name is how much there is, and all cases that differ in it alone are one curve; the other's is over the threads. What
 * is timed is the same all along a curve.
 */
#include "suite.h"

#include <dlfcn.h>
#include <sys/prctl.h>

#include <atomic>

namespace suite {

namespace {

// ------------------------------------------------------------------------------------------------- live blocks

constexpr size_t OPERATIONS = 3000000;
constexpr size_t MEAN = (SMALLEST + LARGEST) / 2 + 1; // bytes of a block, where there are many

// The loop of a case; `work` returns how many operations it made. Each thread notes its own CPU time: where there are
// many more threads than CPUs, google-benchmark's clock starts when some of them are done.
template <typename Work> void run_loop(State &state, Work work) {
    const double start = thread_cpu();
    uint64_t done = 0;
    for (auto _ : state)
        done += work();
    state.counters["own_cpu"] = thread_cpu() - start;
    count(state, done);
}

template <typename Obtain> void fill(Slots &slots, Obtain obtain_one) {
    for (size_t i = 0; i < slots.count(); i++)
        slots[i] = obtain_one();
}

template <typename Obtain> void replace_at_random(State &state, size_t blocks, Random &random, Obtain obtain_one) {
    Slots slots(blocks);
    fill(slots, obtain_one);
    replace(slots, random, blocks, obtain_one);
    run_loop(state, [&] {
        replace(slots, random, CHUNK, obtain_one);
        return CHUNK;
    });
}

void live(State &state, size_t blocks) {
    Random random(0);
    replace_at_random(state, within(blocks, MEAN), random, [&random] { return obtain(common_size(random)); });
}

// What there is to touch, show or walk over.
class Filled : public Slots {
  public:
    explicit Filled(size_t blocks) : Slots(within(blocks, MEAN)) {
        Random random(0);
        fill(*this, [&random] { return obtain(common_size(random)); });
    }
};

// The program's own share of `live`: a random slot is read, its block written, and nothing allocated.
void touch(State &state, size_t blocks) {
    Filled slots(blocks);
    Random random(1);
    run_loop(state, [&] {
        for (size_t i = 0; i < CHUNK; i++)
            touched(slots[random.below(slots.count())]);
        return CHUNK;
    });
}

// Beginning of <cadastre.h>'s: the library under test may be one that has no such thing.
using Visit = int(void *argument, const void *block);
using Walk = int(Visit *visit, void *argument);

void walk(State &state, size_t blocks) {
    static Walk *const cadastre_walk = reinterpret_cast<Walk *>(dlsym(RTLD_DEFAULT, "cadastre_walk"));
    const Filled slots(blocks);
    run_loop(state, [] {
        uint64_t seen = 0;
        auto visit = [](void *argument, const void *) {
            ++*static_cast<uint64_t *>(argument);
            return 0;
        };
        cadastre_walk(visit, &seen);
        return seen;
    });
}

void show(State &state, size_t blocks) {
    const Filled slots(blocks);
    run_loop(state, [&] {
        show_to_null();
        return slots.count();
    });
}

// ---------------------------------------------------------------------------------------------- large, and many

// Where only a page of each block is written, no more than that is to become resident.
void without_huge_pages() {
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

void large(State &state, size_t blocks) {
    Random random(0);
    without_huge_pages();
    replace_at_random(state, blocks, random, [&random] { return obtain(random.even((64 << 10) + 1, 128 << 10)); });
}

// As many blocks as that number of cadastre's zones holds. Those of a quarter of the zones, the oldest, are freed and
// taken again.
constexpr size_t ZONE_BLOCK = 32 << 10, ZONE_BLOCKS = 236;

void zones(State &state, size_t zones) {
    without_huge_pages();
    Slots slots(zones * ZONE_BLOCKS);
    auto take = [] { return obtain(ZONE_BLOCK); };
    fill(slots, take);
    const size_t some = slots.count() / 4;
    run_loop(state, [&] {
        for (size_t i = 0; i < some; i++)
            std::free(slots[i]);
        for (size_t i = 0; i < some; i++)
            slots[i] = take();
        return some;
    });
}

// ------------------------------------------------------------------------------------------ threads and arenas

void threads(State &state) {
    constexpr size_t EACH = 100;
    Random random(state.thread_index());
    within(EACH * static_cast<size_t>(state.threads()), LARGEST);
    replace_at_random(state, EACH, random, [&random] { return obtain(common_size(random)); });
}

// More blocks than caches hold: all of a thread's out, then all back.
void bursts(State &state) {
    Random random(state.thread_index());
    Slots slots(share(state, within(1 << 18, LARGEST)));
    run_loop(state, [&] {
        fill(slots, [&random] { return obtain(common_size(random)); });
        slots.empty();
        return slots.count();
    });
}

// Slots that are everybody's: a block is freed by any thread.
constexpr size_t COMMON = 1 << 16;
std::atomic<void *> *common_slots;

void open_common(const State &) {
    common_slots = static_cast<std::atomic<void *> *>(map_pages(COMMON * sizeof *common_slots));
}

void close_common(const State &) {
    for (size_t i = 0; i < COMMON; i++)
        std::free(common_slots[i]);
    unmap_pages(common_slots, COMMON * sizeof *common_slots);
}

void travel(State &state) {
    Random random(state.thread_index());
    const size_t slots = within(COMMON, LARGEST);
    auto replace_some = [&](size_t times) {
        for (size_t i = 0; i < times; i++)
            std::free(common_slots[random.below(slots)].exchange(obtain(common_size(random))));
    };
    replace_some(2 * share(state, slots));
    run_loop(state, [&] {
        replace_some(CHUNK);
        return CHUNK;
    });
}

std::string step(const char *curve, size_t number) {
    return std::string(curve) + "-" + std::to_string(number);
}

} // namespace

void add_growth() {
    const size_t powers_of_10[] = {1000, 10000, 100000, 1000000, 10000000};
    auto chunks = static_cast<benchmark::IterationCount>(OPERATIONS / CHUNK);
    auto add_curve = [](const char *curve, const char *unit, const char *what, void (*run)(State &, size_t), size_t n,
                        size_t bytes_each) -> Case & {
        return add(
                   "growth", step(curve, n), unit, what, [run, n](State &state) { run(state, n); }, ALONE)
            .holding(n * bytes_each);
    };
    for (size_t n : powers_of_10)
        add_curve("live", "pair", "so many slots of 16 to 527 bytes, replaced at random", live, n, MEAN).times(chunks);
    for (size_t n : powers_of_10)
        add_curve("touch", "write", "so many slots, filled; at random a byte is written", touch, n, MEAN).times(chunks);
    for (size_t n : powers_of_10)
        add_curve("walk", "block", "cadastre_walk over so many blocks of 16 to 527 bytes", walk, n, MEAN)
            .times(static_cast<benchmark::IterationCount>(n < OPERATIONS ? OPERATIONS / n : 1))
            .only_with("cadastre_walk");
    for (size_t n : powers_of_10)
        add_curve("show", "block", "show_alloc_mem of the same to /dev/null", show, n, MEAN)
            .times(static_cast<benchmark::IterationCount>(n < OPERATIONS ? OPERATIONS / n : 1))
            .only_with("show_alloc_mem");
    for (size_t n : {100, 1000, 10000, 100000})
        add_curve("large", "pair", "so many slots of 64 to 128 KiB, replaced at random, a byte of each written", large,
                  n, 4 * 4096)
            .times(100);
    for (size_t n : {1, 4, 16, 64, 256, 1600})
        add_curve("zones", "pair",
                  "blocks of 32 KiB that fill so many of cadastre's zones; the oldest quarter freed, and taken again",
                  zones, n, ZONE_BLOCKS * 2 * 4096)
            .times(n < 64 ? 256 / static_cast<benchmark::IterationCount>(n) : 4);
    add("growth", "threads", "pair", "each thread replaces 100 slots of 16 to 527 bytes at random", threads,
        {1, 2, 4, 8, 16, 32, 64, 128, 256});
    for (size_t n : {1, 2, 4, 8, 16, 32, 64}) {
        const std::string number = std::to_string(n);
        // Of those that have a setting for it; the others' line is there to compare with.
        const std::string arenas =
            "CADASTRE_ARENAS=" + number + " MALLOC_ARENA_MAX=" + number + " MALLOC_CONF=narenas:" + number;
        add("growth", step("arenas", n), "pair",
            "so many arenas; 262,144 blocks of 16 to 527 bytes in all, each thread's out, then back", bursts, {8, 64})
            .with(arenas);
        add("growth", step("travel", n), "pair",
            "so many arenas; 65,536 slots of 16 to 527 bytes that all threads replace at random", travel, {8, 64})
            .around(open_common, close_common)
            .with(arenas);
    }
}

} // namespace suite
