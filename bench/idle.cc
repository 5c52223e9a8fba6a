/*
 * What stays resident when a program comes to rest: the family idle. Threads load the heap, free all of it, once or
 * twenty times, or all but a tenth, or nothing; then they end, or live on and do nothing. A second later scripts/bench
 * compares what is resident with what the load has kept: the counter `kept`.
 */
#include "suite.h"

#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

namespace suite {

namespace {

constexpr size_t TOTAL = 64 << 20; // bytes, all threads together
constexpr int SWINGS = 20;

enum End { FREED, SWUNG, CHURNED_AND_FREED, A_TENTH_LEFT, NOTHING_FREED };

struct Kind {
    size_t mean;
    size_t (*size)(Random &);
};

const Kind SMALL = {(SMALLEST + LARGEST) / 2, common_size};
const Kind MEDIUM = {16 << 10, [](Random &random) { return random.octave(1 << 10, 6); }};
const Kind LARGE = {1 << 20, [](Random &random) { return random.octave(64 << 10, 6); }};

struct Load {
    std::vector<Kind> kinds; // of each the same bytes
    End end;
    bool stays; // the thread does
};

struct Worker {
    const Load *load;
    int number;
    size_t bytes;    // of blocks, at the height of the load
    size_t kept;     // bytes, at its end
    size_t obtained; // blocks
    sem_t done;
};

struct Held {
    void *block;
    size_t size;
};

void run_load(Worker &worker) {
    const Load &load = *worker.load;
    Random random(worker.number);
    std::vector<size_t> ends; // of the slots of each kind
    size_t slots = 0;
    for (const Kind &kind : load.kinds) {
        const size_t count = worker.bytes / load.kinds.size() / kind.mean;
        ends.push_back(slots += count ? count : 1);
    }
    Held *held = static_cast<Held *>(map_pages(slots * sizeof *held));
    auto replace_at = [&](size_t i) {
        size_t kind = 0;
        while (i >= ends[kind])
            kind++;
        std::free(held[i].block);
        held[i].size = load.kinds[kind].size(random);
        held[i].block = written(std::malloc(held[i].size), held[i].size);
        worker.obtained++;
    };
    auto drop = [&](size_t i) {
        std::free(held[i].block);
        held[i] = {};
    };
    for (size_t i = 0; i < slots; i++)
        replace_at(i);
    if (load.end == SWUNG)
        for (int swings = 1; swings < SWINGS; swings++) {
            for (size_t i = 0; i < slots; i++)
                drop(i);
            for (size_t i = 0; i < slots; i++)
                replace_at(i);
        }
    else if (load.end != FREED)
        for (size_t i = 0; i < 2 * slots; i++)
            replace_at(random.below(slots));
    meet();
    for (size_t i = 0; i < slots; i++)
        if (load.end != NOTHING_FREED && (load.end != A_TENTH_LEFT || random.below(10) != 0))
            drop(i);
    for (size_t i = 0; i < slots; i++)
        worker.kept += held[i].size;
    unmap_pages(held, slots * sizeof *held); // what is left is lost, and stays resident
}

void *work(void *argument) {
    Worker &worker = *static_cast<Worker *>(argument);
    const bool stays = worker.load->stays;
    run_load(worker);
    sem_post(&worker.done); // worker is gone from here on
    while (stays)
        pause();
    return nullptr;
}

// Not in google-benchmark's threads, as those always end.
void rest(State &state, const Load &load) {
    for (auto _ : state) {
        Worker worker = {&load, state.thread_index(), share(state, within(TOTAL / 4096, 4096) * 4096), 0, 0, {}};
        sem_init(&worker.done, 0, 0);
        pthread_t thread;
        if (pthread_create(&thread, nullptr, work, &worker) != 0)
            die("cannot start a thread");
        if (load.stays)
            pthread_detach(thread);
        else
            pthread_join(thread, nullptr);
        while (sem_wait(&worker.done) != 0)
            continue; // a signal
        count(state, worker.obtained);
        state.counters["kept"] = static_cast<double>(worker.kept);
    }
}

} // namespace

void add_idle() {
    const struct {
        const char *name, *what;
        std::vector<Kind> kinds;
    } loads[] = {{"small", "64 MiB in blocks of 16 to 527 bytes", {SMALL}},
                 {"medium", "64 MiB in blocks of 1 to 64 KiB", {MEDIUM}},
                 {"large", "64 MiB in blocks of 64 KiB to 4 MiB", {LARGE}},
                 {"mixed", "64 MiB, a third of it small, a third medium, a third large", {SMALL, MEDIUM, LARGE}}};
    const struct {
        const char *name, *what;
        End end;
    } ends[] = {{"freed", ", freed in the same order", FREED},
                {"swung", ", freed in the same order, twenty times", SWUNG},
                {"churned", ", replaced at random for a while, then freed", CHURNED_AND_FREED},
                {"tenth", ", replaced at random for a while, then all freed but a tenth", A_TENTH_LEFT},
                {"live", ", replaced at random for a while, and none freed", NOTHING_FREED}};
    for (const auto &load : loads)
        for (const auto &end : ends)
            for (bool stays : {false, true})
                add("idle", std::string(load.name) + "-" + end.name + (stays ? "-waiting" : "-ended"), "block",
                    (std::string(load.what) + end.what + (stays ? "; the threads stay" : "; the threads end")).c_str(),
                    [l = Load{load.kinds, end.end, stays}](State &state) { rest(state, l); }, {1, 2, 8, 32})
                    .around(open_gate, close_gate)
                    .times(1)
                    .leaving();
}

} // namespace suite
