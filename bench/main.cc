/*
 * The benchmark suite's program.
 *
 *     suite --list
 *     suite --run FAMILY/CASE --threads N [--seconds S | --iterations N] [--idle]
 *     suite [OPTION OF GOOGLE-BENCHMARK...]
 *
 * The second form is scripts/bench's: one case in a process of its own, so that none inherits another's heap and each
 * has a peak RSS of its own. A line of key=value comes out; --idle adds another, after a second of doing nothing. The
 * line names the file in which /proc/self/maps finds malloc, so that a preload that failed cannot pass for a result.
 *
 * `time_ns` is per operation: with one thread CPU time of the process, which on a busy machine is what the wall clock
 * would say on an idle one; with more, and where other processes are waited for, the wall clock's (`clock` says which).
 * `others` is the percentage of the CPUs that other processes had meanwhile.
 */
#include "suite.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <list>
#include <sstream>

namespace suite {

void die(const std::string &what) {
    std::fprintf(stderr, "suite: %s\n", what.c_str());
    std::exit(1);
}

// A list, since add() gives out references.
static std::list<Case> &cases() {
    static std::list<Case> all;
    return all;
}

Case &add(const char *family, const std::string &name, const char *unit, const char *what,
          const std::function<void(State &)> &run, const std::vector<int> &thread_counts) {
    cases().push_back({family, name, unit, what, run, thread_counts});
    return cases().back();
}

// ------------------------------------------------------------------------------------ what the kernel says

// The number of KiB that stands after `key` in a file of /proc.
static size_t proc_kib(const char *path, const std::string &key) {
    std::ifstream file(path);
    std::string line;
    size_t kib;
    while (std::getline(file, line))
        if (line.compare(0, key.size(), key) == 0 && std::sscanf(line.c_str() + key.size(), ": %zu kB", &kib) == 1)
            return kib;
    die("cannot find " + key + " in " + path);
}

// The file that is mapped at `address`.
static std::string mapped_file(const void *address) {
    std::ifstream file("/proc/self/maps");
    std::string line;
    uintptr_t start, end;
    while (std::getline(file, line))
        if (std::sscanf(line.c_str(), "%lx-%lx", &start, &end) == 2 && start <= reinterpret_cast<uintptr_t>(address) &&
            reinterpret_cast<uintptr_t>(address) < end && line.find('/') != std::string::npos)
            return line.substr(line.find('/'));
    die("malloc lies in no mapped file");
}

static double seconds_used(int who) {
    rusage used;
    getrusage(who, &used);
    return static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

// CPU time of all other processes, in seconds. The fields after "cpu": user nice system idle iowait irq softirq steal.
static double others_cpu() {
    std::ifstream file("/proc/stat");
    std::string cpu;
    double ticks = 0, field;
    file >> cpu;
    for (int i = 0; i < 8 && file >> field; i++)
        if (i != 3 && i != 4)
            ticks += field;
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK)) - seconds_used(RUSAGE_SELF) -
           seconds_used(RUSAGE_CHILDREN);
}

static double now_by(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

static double wall() {
    return now_by(CLOCK_MONOTONIC);
}

double thread_cpu() {
    return now_by(CLOCK_THREAD_CPUTIME_ID);
}

// ------------------------------------------------------------------------------------------------- memory

static std::atomic<size_t> most_live; // bytes, as the case says by calling within()

size_t memory_bound() {
    static const size_t bound = proc_kib("/proc/meminfo", "MemAvailable") / 4 * 1024;
    return bound;
}

size_t within(size_t blocks, size_t bytes) {
    const size_t bound = memory_bound();
    if (blocks > bound / bytes)
        blocks = bound / bytes ? bound / bytes : 1;
    size_t most = most_live;
    while (blocks * bytes > most && !most_live.compare_exchange_weak(most, blocks * bytes))
        continue;
    return blocks;
}

void *map_pages(size_t bytes) {
    void *pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        die("mmap: " + std::string(std::strerror(errno)));
    return pages;
}

void unmap_pages(void *pages, size_t bytes) {
    munmap(pages, bytes);
}

// ------------------------------------------------------------------------------------------------ running

static pthread_barrier_t gate;

void open_gate(const State &state) {
    pthread_barrier_init(&gate, nullptr, static_cast<unsigned>(state.threads()));
}

void close_gate(const State &) {
    pthread_barrier_destroy(&gate);
}

void meet() {
    pthread_barrier_wait(&gate);
}

// Why the case cannot be run here, as one word; "": it can.
static std::string obstacle(const Case &c) {
    if (!c.needs.empty() && !dlsym(RTLD_DEFAULT, c.needs.c_str()))
        return "no-" + c.needs;
    return c.bytes > memory_bound() ? "too-little-memory" : "";
}

static benchmark::internal::Benchmark *enlist(const Case &c) {
    auto *b = benchmark::RegisterBenchmark(c.full_name().c_str(), c.run);
    b->UseRealTime()->MeasureProcessCPUTime();
    if (c.before)
        b->Setup(c.before);
    if (c.after)
        b->Teardown(c.after);
    if (c.iterations)
        b->Iterations(c.iterations);
    return b;
}

class Keeper : public benchmark::BenchmarkReporter {
  public:
    bool ReportContext(const Context &) override {
        return true;
    }
    void ReportRuns(const std::vector<Run> &runs) override {
        operations = runs.back().counters.at("operations");
        auto optional = [&](const char *name) {
            auto found = runs.back().counters.find(name);
            return found == runs.back().counters.end() ? 0 : found->second.value;
        };
        freeing = optional("freeing_cpu");
        kept = optional("kept");
        wall = runs.back().real_accumulated_time;
        cpu = runs.back().cpu_accumulated_time;
        if (optional("own_cpu") > 0)
            cpu = optional("own_cpu");
    }
    double operations = 0, kept = 0;       // operations, and bytes
    double freeing = 0, wall = 0, cpu = 0; // seconds
};

struct Request {
    std::string name;
    int threads = 1;
    double seconds = 0.2;
    benchmark::IterationCount iterations = 0;
    bool idle = false;
};

static int run_one(const Request &request) {
    const Case *found = nullptr;
    for (const Case &c : cases())
        if (c.full_name() == request.name)
            found = &c;
    if (!found)
        die(request.name + ": no such case; --list names them");
    if (request.threads > found->thread_counts.back())
        die(request.name + " is for no more than " + std::to_string(found->thread_counts.back()) + " threads");
    if (!obstacle(*found).empty()) {
        std::printf("skipped=%s\n", obstacle(*found).c_str());
        return 0;
    }
    auto *b = enlist(*found)->Threads(request.threads);
    if (request.iterations && !found->iterations)
        b->Iterations(request.iterations);
    else if (!found->iterations)
        b->MinTime(request.seconds);

    const std::string library = mapped_file(dlsym(RTLD_DEFAULT, "malloc"));
    const size_t rss_before = proc_kib("/proc/self/status", "VmRSS");
    rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    const double start = wall(), others_before = others_cpu();
    Keeper keeper;
    benchmark::RunSpecifiedBenchmarks(&keeper);
    const double others = (others_cpu() - others_before) / (wall() - start) / double(sysconf(_SC_NPROCESSORS_ONLN));
    getrusage(RUSAGE_SELF, &after);
    const size_t peak = proc_kib("/proc/self/status", "VmHWM");
    if (keeper.operations <= 0)
        die(request.name + " did nothing");

    const bool by_cpu = request.threads == 1 && !found->waits;
    const double per_operation = 1e9 / keeper.operations;
    std::printf("time_ns=%.4f clock=%s cpu_ns=%.4f operations=%.0f peak_rss_kib=%zu rss_before_kib=%zu "
                "minor_faults=%ld major_faults=%ld live=%zu kept=%.0f others=%.0f ",
                (by_cpu ? keeper.cpu : keeper.wall) * per_operation, by_cpu ? "cpu" : "wall",
                keeper.cpu * per_operation, keeper.operations, peak, rss_before, after.ru_minflt - before.ru_minflt,
                after.ru_majflt - before.ru_majflt, most_live.load(), keeper.kept, others > 0 ? 100 * others : 0);
    if (keeper.freeing > 0)
        std::printf("cpu_freeing_ns=%.4f ", keeper.freeing * per_operation);
    std::printf("malloc=%s\n", library.c_str()); // last, since it may have spaces in it
    std::fflush(stdout);
    if (request.idle) {
        sleep(1);
        std::printf("idle_rss_kib=%zu\n", proc_kib("/proc/self/status", "VmRSS"));
    }
    return 0;
}

// Tab-separated: name, thread counts, unit, environment, hot, what.
static int list() {
    for (const Case &c : cases()) {
        std::string counts;
        for (int n : c.thread_counts)
            counts += (counts.empty() ? "" : ",") + std::to_string(n);
        std::printf("%s\t%s\t%s\t%s\t%s\t%s\n", c.full_name().c_str(), counts.c_str(), c.unit.c_str(),
                    c.environment.c_str(), c.hot ? "hot" : "", c.what.c_str());
    }
    return 0;
}

static int usage() {
    std::fputs("usage: suite --list\n"
               "       suite --run FAMILY/CASE --threads N [--seconds S | --iterations N] [--idle]\n"
               "       suite [OPTION OF GOOGLE-BENCHMARK...]\n",
               stderr);
    return 2;
}

static int main(int argc, char **argv) {
    add_contention();
    add_cross_thread();
    add_false_sharing();
    add_small();
    add_realloc();
    add_large();
    add_process();
    add_map();
    add_growth();
    add_idle();
    if (argc == 2 && std::strcmp(argv[1], "--list") == 0)
        return list();
    if (argc < 2 || std::strcmp(argv[1], "--run") != 0) {
        for (const Case &c : cases())
            if (obstacle(c).empty() && !c.leaves)
                for (int n : c.thread_counts)
                    enlist(c)->Threads(n);
        benchmark::Initialize(&argc, argv);
        if (benchmark::ReportUnrecognizedArguments(argc, argv))
            return usage();
        benchmark::RunSpecifiedBenchmarks();
        return 0;
    }
    Request request;
    for (int i = 1; i < argc; i++) {
        const std::string option = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        i += option != "--idle";
        if (option == "--idle")
            request.idle = true;
        else if (option == "--run")
            request.name = value;
        else if (option == "--threads")
            request.threads = std::atoi(value);
        else if (option == "--seconds")
            request.seconds = std::atof(value);
        else if (option == "--iterations")
            request.iterations = std::atoll(value);
        else
            return usage();
    }
    if (request.threads < 1 || request.seconds <= 0 || request.iterations < 0)
        return usage();
    return run_one(request);
}

} // namespace suite

int main(int argc, char **argv) {
    return suite::main(argc, argv);
}
