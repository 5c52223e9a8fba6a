// Threads and processes that come and go, and what a process keeps when its needs change: the family process.
#include "suite.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace suite {

namespace {

constexpr size_t SOME = 100;

void use_a_little() {
    Random random(0);
    void *held[SOME];
    for (void *&block : held)
        block = obtain(common_size(random));
    for (void *block : held)
        std::free(block);
}

void thread_churn(State &state) {
    uint64_t done = 0;
    for (auto _ : state) {
        pthread_t thread;
        auto body = [](void *) -> void * {
            use_a_little();
            return nullptr;
        };
        if (pthread_create(&thread, nullptr, body, nullptr) != 0)
            die("cannot start a thread");
        pthread_join(thread, nullptr);
        done++;
    }
    count(state, done);
}

void wait_for(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        die("a child process failed");
}

void fork_large_heap(State &state) {
    Random random(0);
    Slots slots(within(100000, LARGEST));
    for (size_t i = 0; i < slots.count(); i++)
        slots[i] = obtain(common_size(random));
    uint64_t done = 0;
    for (auto _ : state) {
        const pid_t child = fork();
        if (child == 0) {
            use_a_little();
            _exit(0);
        }
        wait_for(child);
        done++;
    }
    count(state, done);
}

// The program that does nothing lies beside this one.
std::string beside(const char *name) {
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length <= 0)
        die("cannot read /proc/self/exe");
    const std::string self(path, static_cast<size_t>(length));
    return self.substr(0, self.rfind('/') + 1) + name;
}

void start_up(State &state) {
    const std::string program = beside("nothing");
    char name[] = "nothing";
    char *const argv[] = {name, nullptr};
    uint64_t done = 0;
    for (auto _ : state) {
        pid_t child;
        if (posix_spawn(&child, program.c_str(), nullptr, nullptr, argv, environ) != 0)
            die("cannot start " + program);
        wait_for(child);
        done++;
    }
    count(state, done);
}

// Few blocks of many sizes: its peak RSS over that before the load is what an allocator needs for itself.
void few_of_many_sizes(State &state) {
    constexpr size_t CLASSES = 25, EACH = 4;
    uint64_t done = 0;
    for (auto _ : state) {
        void *held[CLASSES][EACH];
        size_t size = 16;
        for (auto &of_a_class : held) {
            for (void *&block : of_a_class)
                block = obtain(size);
            size += size < 256 ? 16 : size / 4;
        }
        for (auto &of_a_class : held)
            for (void *block : of_a_class)
                std::free(block);
        done += CLASSES * EACH;
    }
    count(state, done);
}

// A program whose needs change: 32 MiB in small blocks, all of them freed, or all but one in a hundred; then as much in
// larger ones.
template <size_t kept_of_100> void phases(State &state) {
    constexpr size_t TOTAL = 32 << 20, SMALL = 64, LARGER = 2000;
    const size_t total = share(state, within(TOTAL / LARGER, LARGER) * LARGER);
    Slots small(total / SMALL), larger(total / LARGER);
    auto cycle = [&] {
        for (size_t i = 0; i < small.count(); i++)
            small[i] = obtain(SMALL);
        meet();
        for (size_t i = 0; i < small.count(); i++)
            if (i % 100 >= kept_of_100) {
                std::free(small[i]);
                small[i] = nullptr;
            }
        for (size_t i = 0; i < larger.count(); i++)
            larger[i] = obtain(LARGER);
        meet();
        larger.empty();
        small.empty();
    };
    cycle(); // the first one is another thing: its pages are new
    uint64_t done = 0;
    for (auto _ : state) {
        cycle();
        done += small.count() + larger.count();
    }
    count(state, done);
}

} // namespace

void add_process() {
    add("process", "thread-churn", "thread",
        "a thread that allocates 100 blocks of 16 to 527 bytes, frees them and ends", thread_churn)
        .waiting();
    add("process", "phases", "pair", "32 MiB in blocks of 64 bytes, all freed; then 32 MiB in blocks of 2,000",
        phases<0>)
        .around(open_gate, close_gate);
    add("process", "phases-pinned", "pair", "the same, but one in a hundred of the small ones stays", phases<1>)
        .around(open_gate, close_gate);
    add("process", "few-of-many", "pair", "4 blocks of each of 25 sizes, 16 to 1,906 bytes", few_of_many_sizes, ALONE);
    add("process", "fork", "child", "fork with 100,000 live blocks; the child allocates 100", fork_large_heap, ALONE)
        .waiting();
    add("process", "start-up", "process", "exec of a program that does nothing", start_up, ALONE).waiting();
}

} // namespace suite
