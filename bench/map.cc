// The map of the heap: what it costs to print, and what its printing costs those who allocate meanwhile.
#include "suite.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>

namespace suite {

void show_to_null() {
    using Show = void();
    static Show *const show_alloc_mem = reinterpret_cast<Show *>(dlsym(RTLD_DEFAULT, "show_alloc_mem"));
    const int kept = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY);
    if (kept < 0 || null < 0 || dup2(null, STDOUT_FILENO) < 0)
        die("cannot redirect the standard output");
    show_alloc_mem();
    dup2(kept, STDOUT_FILENO);
    close(null);
    close(kept);
}

namespace {

template <size_t total> void show_blocks(State &state) {
    Random random(0);
    Slots slots(within(total, LARGEST));
    for (size_t i = 0; i < slots.count(); i++)
        slots[i] = obtain(common_size(random));
    uint64_t done = 0;
    for (auto _ : state) {
        show_to_null();
        done += slots.count();
    }
    count(state, done);
}

std::atomic<bool> showing;
pthread_t shower;

// Now and then, so that one CPU less is not what is measured.
void *show_now_and_then(void *) {
    while (showing) {
        show_to_null();
        usleep(50000);
    }
    return nullptr;
}

void begin_showing(const State &) {
    showing = true;
    if (pthread_create(&shower, nullptr, show_now_and_then, nullptr) != 0)
        die("cannot start a thread");
}

void end_showing(const State &) {
    showing = false;
    pthread_join(shower, nullptr);
}

void replace_meanwhile(State &state) {
    Random random(state.thread_index());
    run_replace(state, within(100000, LARGEST), random, [&random] { return obtain(common_size(random)); });
}

} // namespace

void add_map() {
    const char *show_alloc_mem = "show_alloc_mem";
    add("map", "show-1k", "block", "show_alloc_mem to /dev/null, 1,000 live blocks", show_blocks<1000>, ALONE)
        .only_with(show_alloc_mem);
    add("map", "show-100k", "block", "the same, 100,000", show_blocks<100000>, ALONE).only_with(show_alloc_mem);
    add("map", "show-1m", "block", "the same, 1,000,000", show_blocks<1000000>, ALONE)
        .only_with(show_alloc_mem)
        .times(2);
    add("map", "unshown", "pair", "100,000 slots of 16 to 527 bytes, replaced at random", replace_meanwhile)
        .waiting()
        .only_with(show_alloc_mem);
    add("map", "shown", "pair", "the same, while another thread shows them every 50 ms", replace_meanwhile)
        .around(begin_showing, end_showing)
        .waiting()
        .only_with(show_alloc_mem);
}

} // namespace suite
