// C++ thread_local objects whose constructors and destructors allocate; containers that travel between threads; sized
// and aligned operator new and delete. Prints "fine".
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

static std::atomic<int> destroyed{0}, wrong{0};

struct Holder {
    std::map<int, std::string> words;
    std::string name = "a name that is too long to be kept inside the string itself";

    void add() {
        for (int i = 0; i < 100; i++)
            words[i] = std::string(static_cast<size_t>(i) * 20, static_cast<char>('a' + i % 26));
    }

    ~Holder() {
        for (auto &[number, word] : words)
            if (word.size() != static_cast<size_t>(number) * 20)
                wrong++;
        words.clear();
        add(); // allocating in a destructor, once more
        if (name.substr(0, 6) != "a name")
            wrong++;
        destroyed++;
    }
};

struct alignas(256) Wide {
    char bytes[256];
};

thread_local Holder first;
thread_local std::unique_ptr<Holder> second;

static std::mutex lock;
static std::vector<std::string> collected; // under lock

static void work() {
    first.add();
    second = std::make_unique<Holder>();
    second->add();
    auto wide = std::make_unique<Wide[]>(10);
    if (reinterpret_cast<uintptr_t>(wide.get()) % 256 != 0)
        wrong++;
    std::lock_guard<std::mutex> guard(lock);
    collected.push_back(first.words[50]); // freed by another thread
}

int main() {
    constexpr int rounds = 50, threads = 8;
    for (int round = 0; round < rounds; round++) {
        std::vector<std::thread> running;
        for (int i = 0; i < threads; i++)
            running.emplace_back(work);
        for (auto &thread : running)
            thread.join();
        collected.clear();
    }
    if (destroyed != 2 * rounds * threads || wrong != 0) {
        std::printf("%d destroyed, %d wrong\n", destroyed.load(), wrong.load());
        return 1;
    }
    work(); // the main thread's own are destroyed at exit
    std::puts("fine");
    return 0;
}
