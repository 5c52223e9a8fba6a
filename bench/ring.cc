/*
 * The ring buffer between two processes, beside what the system has for that: a pipe, a Unix socket, a POSIX message
 * queue; and beside memcpy, which is what copying costs. No comparison of allocators: a program of its own, that
 * scripts/bench --ring runs.
 *
 *     ring [OPTION OF GOOGLE-BENCHMARK...]
 *
 * throughput: this process writes messages of so many bytes, another reads them. round-trip: the other sends each one
 * back, and the next is written when it is here. All transports hold as much before they are full, where they can be
 * told so. Medians of repetitions that are run in random order, at most a minute; below, what is wanted of the ring.
 */
#include "ring_buffer.h"

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using benchmark::State;

[[noreturn]] void fail(const std::string &what) {
    throw std::runtime_error(what + ": " + std::strerror(errno));
}

// What a transport holds: as much as a pipe does by default, or as one of an unprivileged user may.
constexpr size_t SMALL_CAPACITY = 64 << 10, LARGE_CAPACITY = 1 << 20;

size_t capacity_for(size_t size) {
    return size < 4096 ? SMALL_CAPACITY : LARGE_CAPACITY;
}

// A name that no other process takes.
std::string own_name() {
    static int count = 0;
    return "/ring-bench-" + std::to_string(getpid()) + "-" + std::to_string(count++);
}

// ------------------------------------------------------------------------------------------------ transports

// One way, made before fork. Both take and give at most `size` bytes, what it was made for.
class Transport {
  public:
    virtual ~Transport() = default;
    virtual ssize_t send(const char *data, size_t size) = 0;
    virtual ssize_t receive(char *data, size_t size) = 0;
};

template <int flags, bool framed> class Ring : public Transport {
  public:
    explicit Ring(size_t size) : ring(create_ring_buffer_ex(own_name().c_str(), capacity_for(size), flags, 0600)) {
        if (!ring)
            fail("create_ring_buffer_ex");
    }
    ~Ring() override {
        destroy_ring_buffer(ring);
    }
    ssize_t send(const char *data, size_t size) override {
        return framed ? ring_write_message(ring, data, size) : ring_write(ring, data, size);
    }
    ssize_t receive(char *data, size_t size) override {
        return framed ? ring_read_message(ring, data, size) : ring_read(ring, data, size);
    }

  private:
    t_ring_buffer *ring;
};

class Descriptors : public Transport {
  public:
    ~Descriptors() override {
        close(ends[0]);
        close(ends[1]);
    }
    ssize_t send(const char *data, size_t size) override {
        return write(ends[1], data, size);
    }
    ssize_t receive(char *data, size_t size) override {
        return read(ends[0], data, size);
    }

  protected:
    int ends[2];
};

class Pipe : public Descriptors {
  public:
    explicit Pipe(size_t size) {
        if (pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[1], F_SETPIPE_SZ, capacity_for(size)) < 0)
            fail("pipe");
    }
};

class Socket : public Descriptors {
  public:
    explicit Socket(size_t size) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
            fail("socketpair");
        const int capacity = static_cast<int>(capacity_for(size));
        setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &capacity, sizeof capacity); // the kernel may give less
    }
};

class Queue : public Transport {
  public:
    explicit Queue(size_t size) {
        const std::string name = own_name();
        mq_attr attributes = {};
        attributes.mq_maxmsg = 10; // all that an unprivileged user may have
        attributes.mq_msgsize = static_cast<long>(size);
        queue = mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
        if (queue == -1)
            fail("mq_open");
        mq_unlink(name.c_str());
    }
    ~Queue() override {
        mq_close(queue);
    }
    ssize_t send(const char *data, size_t size) override {
        return mq_send(queue, data, size, 0) == 0 ? static_cast<ssize_t>(size) : -1;
    }
    ssize_t receive(char *data, size_t size) override {
        return mq_receive(queue, data, size, nullptr);
    }

  private:
    mqd_t queue;
};

// ----------------------------------------------------------------------------------------------------- cases

// Another process that does the same again and again, until this object goes.
class Peer {
  public:
    template <class Body> explicit Peer(Body body) : pid(fork()) {
        if (pid < 0)
            fail("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            while (body())
                continue;
            _exit(1);
        }
    }
    ~Peer() {
        kill(pid, SIGKILL);
        waitpid(pid, nullptr, 0);
    }

  private:
    const pid_t pid;
};

// A message may come in pieces.
bool receive_all(Transport &from, char *data, size_t size) {
    for (size_t done = 0; done < size;) {
        const ssize_t length = from.receive(data + done, size - done);
        if (length <= 0)
            return false;
        done += static_cast<size_t>(length);
    }
    return true;
}

template <class Kind> void throughput(State &state) {
    const size_t size = static_cast<size_t>(state.range(0));
    std::vector<char> out(size, 'o'), in(size);
    try {
        Kind way(size);
        Peer peer([&] { return way.receive(in.data(), size) > 0; });
        for (auto _ : state)
            if (way.send(out.data(), size) != static_cast<ssize_t>(size))
                fail("send");
    } catch (const std::exception &error) {
        state.SkipWithError(error.what());
    }
}

template <class Kind> void round_trip(State &state) {
    const size_t size = static_cast<size_t>(state.range(0));
    std::vector<char> out(size, 'o'), in(size);
    try {
        Kind there(size), back(size);
        Peer peer([&] {
            return receive_all(there, in.data(), size) && back.send(in.data(), size) == static_cast<ssize_t>(size);
        });
        for (auto _ : state)
            if (there.send(out.data(), size) != static_cast<ssize_t>(size) || !receive_all(back, in.data(), size))
                fail("send or receive");
    } catch (const std::exception &error) {
        state.SkipWithError(error.what());
    }
}

void copy(State &state) {
    const size_t size = static_cast<size_t>(state.range(0));
    std::vector<char> from(size, 'o'), to(size);
    for (auto _ : state) {
        std::memcpy(to.data(), from.data(), size);
        benchmark::DoNotOptimize(to.data());
        benchmark::ClobberMemory();
    }
}

template <class Kind> void enlist(const std::string &name) {
    benchmark::RegisterBenchmark(("throughput/" + name).c_str(), throughput<Kind>)->UseRealTime()->Arg(64)->Arg(65536);
    benchmark::RegisterBenchmark(("round-trip/" + name).c_str(), round_trip<Kind>)->UseRealTime()->Arg(64);
}

// ---------------------------------------------------------------------------------------------------- report

// Of each case the median of its repetitions: a table of them, and the ratios.
class Reporter : public benchmark::BenchmarkReporter {
  public:
    bool ReportContext(const Context &) override {
        return true;
    }

    void ReportRuns(const std::vector<Run> &runs) override {
        for (const Run &run : runs) {
            const std::string name = run.run_name.function_name + "/" + run.run_name.args;
            if (run.error_occurred)
                std::fprintf(stderr, "%s: %s\n", name.c_str(), run.error_message.c_str());
            else if (run.run_type == Run::RT_Iteration)
                std::fprintf(stderr, "%-32s %10.1f ns\n", name.c_str(), run.GetAdjustedRealTime());
            else if (run.aggregate_name == "median")
                medians[name] = run.GetAdjustedRealTime();
        }
    }

    void summary() const {
        std::printf("%-16s%16s%16s%16s\n", "", "64 bytes", "64 KiB", "round trip");
        for (const char *name : {"ring", "ring-messages", "ring-spsc", "pipe", "socket", "mq"}) {
            const std::string of = name;
            std::printf("%-16s", name);
            cell("throughput/" + of + "/64", "ns", [](double ns) { return ns; });
            cell("throughput/" + of + "/65536", "GB/s", [](double ns) { return 65536 / ns; });
            cell("round-trip/" + of + "/64", "us", [](double ns) { return ns / 1000; });
            std::printf("\n");
        }
        std::printf("%-16s", "memcpy");
        cell("memcpy/64", "ns", [](double ns) { return ns; });
        cell("memcpy/65536", "GB/s", [](double ns) { return 65536 / ns; });
        std::printf("\n\n");
        for (const char *name : {"ring", "ring-spsc"}) {
            const std::string of = name;
            ratio(of, "64", "throughput/pipe/64", "the pipe's throughput at 64 bytes; at least 3 is wanted");
            ratio(of, "65536", "memcpy/65536", "memcpy's bandwidth at 64 KiB; at least 0.5 is wanted");
        }
    }

  private:
    void cell(const std::string &name, const char *unit, double (*convert)(double)) const {
        char text[32] = "-";
        const auto found = medians.find(name);
        if (found != medians.end())
            std::snprintf(text, sizeof text, "%.1f %s", convert(found->second), unit);
        std::printf("%16s", text);
    }

    void ratio(const std::string &name, const std::string &size, const std::string &to, const char *what) const {
        const auto found = medians.find("throughput/" + name + "/" + size), other = medians.find(to);
        if (found != medians.end() && other != medians.end())
            std::printf("%-16s%6.2f times %s\n", name.c_str(), other->second / found->second, what);
    }

    std::map<std::string, double> medians; // nanoseconds
};

} // namespace

int main(int argc, char **argv) {
    // Before the caller's own, which overrule them.
    std::vector<char *> arguments = {argv[0]};
    std::string ours[] = {"--benchmark_repetitions=5", "--benchmark_min_time=0.2",
                          "--benchmark_enable_random_interleaving=true"};
    for (std::string &option : ours)
        arguments.push_back(&option[0]);
    arguments.insert(arguments.end(), argv + 1, argv + argc);
    int count = static_cast<int>(arguments.size());
    enlist<Ring<0, false>>("ring");
    enlist<Ring<0, true>>("ring-messages");
    enlist<Ring<RING_SPSC, false>>("ring-spsc");
    enlist<Pipe>("pipe");
    enlist<Socket>("socket");
    enlist<Queue>("mq");
    benchmark::RegisterBenchmark("memcpy", copy)->UseRealTime()->Arg(64)->Arg(65536);
    benchmark::Initialize(&count, arguments.data());
    if (benchmark::ReportUnrecognizedArguments(count, arguments.data()))
        return 2;
    Reporter reporter;
    benchmark::RunSpecifiedBenchmarks(&reporter);
    reporter.summary();
}
