// gcc.t's C++ program: containers, strings, exceptions and regular expressions on four threads, whose blocks
// come from operator new and are freed by other threads. Prints a checksum. usage: templates MIB
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using Index = std::map<std::string, std::vector<std::unique_ptr<std::string>>>;

constexpr unsigned threads = 4;

std::uint32_t next(std::uint32_t &state) {
    return state = state * 1664525u + 1013904223u;
}

Index build(std::uint32_t seed, std::size_t bytes) {
    Index index;
    for (std::size_t made = 0; made < bytes;) {
        auto size = 1 + next(seed) % 400;
        auto key = std::to_string(next(seed) >> 20);
        index[key].push_back(std::make_unique<std::string>(size, static_cast<char>('a' + size % 26)));
        made += size + 100;
    }
    return index;
}

// Takes the index over from the thread that built it, and frees all of it.
std::uint64_t consume(Index index) {
    const std::regex pattern("(1[0-9]*)(7)$");
    std::unordered_map<std::string, std::uint64_t> found;
    std::uint64_t odd = 0;
    for (auto &[key, values] : index) {
        std::smatch match;
        if (std::regex_search(key, match, pattern))
            found[match[1]] += values.size();
        std::sort(values.begin(), values.end(), [](auto &a, auto &b) { return *a < *b; });
        try {
            if (values.size() % 2)
                throw std::runtime_error(key + *values.front());
        } catch (const std::runtime_error &error) {
            odd += std::string(error.what()).size();
        }
    }
    return std::accumulate(found.begin(), found.end(), odd, [](std::uint64_t sum, const auto &entry) {
        return sum + entry.second * std::strtoull(entry.first.c_str(), nullptr, 10);
    });
}

} // namespace

int main(int argc, char **argv) {
    const std::size_t bytes = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 64) * (1 << 20) / threads / 2;
    for (std::uint32_t round = 0; round < 30; round++) {
        std::vector<std::future<Index>> built;
        for (unsigned i = 0; i < threads; i++)
            built.push_back(std::async(std::launch::async, build, round * threads + i, bytes));
        std::vector<std::future<std::uint64_t>> sums;
        for (auto &index : built)
            sums.push_back(std::async(std::launch::async, consume, index.get()));
        std::uint64_t total = 0;
        for (auto &sum : sums)
            total += sum.get();
        std::printf("%u %llu\n", round, static_cast<unsigned long long>(total));
    }
}
