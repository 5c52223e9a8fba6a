/*
 * Blocks freed by threads that did not allocate them. They travel in batches, so that the queues cost next to nothing:
 * a thread that finds its queue empty or full sleeps, as a server's would. All blocks under way are BATCHES * BATCH at
 * most, whatever the number of threads.
 */
#include "suite.h"

#include <semaphore.h>

namespace suite {

namespace {

constexpr size_t BATCH = 64, BATCHES = 128, MOST_THREADS = 64;

// A queue with one thread at each end.
class alignas(128) Channel {
  public:
    void open(size_t capacity) {
        capacity_ = capacity;
        sem_init(&empty_, 0, static_cast<unsigned>(capacity));
        sem_init(&full_, 0, 0);
        sent_ = received_ = 0;
    }
    void close() {
        sem_destroy(&empty_);
        sem_destroy(&full_);
    }
    // The places of a batch: to be written before sent(), to be read before received(). `waited` grows by the CPU time
    // that the waiting took, which is none of the allocator's.
    void **to_send(double &waited) {
        wait(empty_, waited);
        return batch_[sent_++ % capacity_];
    }
    void sent() {
        sem_post(&full_);
    }
    void **to_receive(double &waited) {
        wait(full_, waited);
        return batch_[received_++ % capacity_];
    }
    void received() {
        sem_post(&empty_);
    }

  private:
    static void wait(sem_t &semaphore, double &waited) {
        if (sem_trywait(&semaphore) == 0)
            return;
        const double start = thread_cpu();
        while (sem_wait(&semaphore) != 0)
            continue; // a signal
        waited += thread_cpu() - start;
    }
    size_t capacity_;
    sem_t empty_, full_;
    alignas(128) size_t sent_;
    alignas(128) size_t received_;
    alignas(128) void *batch_[BATCHES][BATCH];
};

Channel channels[MOST_THREADS];

size_t channel_count(const State &state, size_t threads_per_channel, size_t without) {
    return (static_cast<size_t>(state.threads()) - without) / threads_per_channel;
}

void open(size_t count) {
    within(BATCHES * BATCH, LARGEST);
    for (size_t i = 0; i < count; i++)
        channels[i].open(BATCHES / count);
}

void close(size_t count) {
    for (size_t i = 0; i < count; i++)
        channels[i].close();
}

// One end of a case: a thread that sends or receives, and what it did.
class Worker {
  public:
    explicit Worker(State &state) : state_(state), random_(state.thread_index()), start_(thread_cpu()) {}

    void send(Channel &channel) {
        void **batch = channel.to_send(waited_);
        for (size_t i = 0; i < BATCH; i++)
            batch[i] = obtain(common_size(random_));
        channel.sent();
    }
    void receive(Channel &channel) {
        void **batch = channel.to_receive(waited_);
        for (size_t i = 0; i < BATCH; i++)
            std::free(batch[i]);
        channel.received();
        operations_ += BATCH;
    }
    // Blocks that never leave the thread.
    void keep_to_itself() {
        void *batch[BATCH];
        for (void *&block : batch)
            block = obtain(common_size(random_));
        for (void *block : batch)
            std::free(block);
        operations_ += BATCH;
    }
    void end() {
        count(state_, operations_);
    }
    void end_of_one_that_frees() {
        end();
        state_.counters["freeing_cpu"] = thread_cpu() - start_ - waited_;
    }

  private:
    State &state_;
    Random random_;
    double start_, waited_ = 0;
    uint64_t operations_ = 0;
};

// ---------------------------------------------------------------------------------------------------- pairs

void open_pairs(const State &state) {
    open(channel_count(state, 2, 0));
}

void close_pairs(const State &state) {
    close(channel_count(state, 2, 0));
}

void pairs(State &state) {
    Worker worker(state);
    Channel &channel = channels[state.thread_index() / 2];
    if (state.thread_index() % 2 == 0) {
        for (auto _ : state)
            worker.send(channel);
        worker.end();
    } else {
        for (auto _ : state)
            worker.receive(channel);
        worker.end_of_one_that_frees();
    }
}

// ------------------------------------- one on one side, all others on the other: thread 0 has a channel to each

void open_star(const State &state) {
    open(channel_count(state, 1, 1));
}

void close_star(const State &state) {
    close(channel_count(state, 1, 1));
}

void one_to_many(State &state) {
    Worker worker(state);
    const size_t self = static_cast<size_t>(state.thread_index());
    if (self == 0) {
        for (auto _ : state)
            for (size_t i = 0; i < channel_count(state, 1, 1); i++)
                worker.send(channels[i]);
        worker.end();
    } else {
        for (auto _ : state)
            worker.receive(channels[self - 1]);
        worker.end_of_one_that_frees();
    }
}

// Half of the blocks of the others are freed by thread 0, or all of them.
template <bool half> void many_to_one(State &state) {
    Worker worker(state);
    const size_t self = static_cast<size_t>(state.thread_index());
    if (self == 0) {
        for (auto _ : state)
            for (size_t i = 0; i < channel_count(state, 1, 1); i++)
                worker.receive(channels[i]);
        worker.end_of_one_that_frees();
    } else {
        for (auto _ : state) {
            worker.send(channels[self - 1]);
            if (half)
                worker.keep_to_itself();
        }
        worker.end();
    }
}

// ------------------------------------------------------------------------------------------------------ ring

void open_ring(const State &state) {
    open(channel_count(state, 1, 0));
}

void close_ring(const State &state) {
    close(channel_count(state, 1, 0));
}

void ring(State &state) {
    Worker worker(state);
    const int self = state.thread_index();
    for (auto _ : state) {
        worker.send(channels[(self + 1) % state.threads()]);
        worker.receive(channels[self]);
    }
    worker.end();
}

} // namespace

void add_cross_thread() {
    add("cross-thread", "pairs", "pair", "one thread allocates 16 to 527 bytes, another frees; more such pairs", pairs,
        TWO_TO_64)
        .around(open_pairs, close_pairs);
    add("cross-thread", "one-to-many", "pair", "one thread allocates, all others free", one_to_many, TWO_TO_64)
        .around(open_star, close_star);
    add("cross-thread", "many-to-one", "pair", "all others allocate, one thread frees", many_to_one<false>, TWO_TO_64)
        .around(open_star, close_star);
    add("cross-thread", "ring", "pair", "each thread frees what the one before it allocated", ring, TO_64)
        .around(open_ring, close_ring);
    add("cross-thread", "only-frees", "pair", "half of what all others allocate is freed by a thread that only frees",
        many_to_one<true>, TWO_TO_64)
        .around(open_star, close_star);
}

} // namespace suite
