// Takes and frees as C++ programs do: streams, locales, exceptions, threads, a library that is opened and closed; what
// is left is what the libraries keep. With an argument, it leaks four blocks of that many bytes as well.
#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <iostream>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>

static int work(int number) {
    std::map<std::string, std::vector<int>> map;
    for (int i = 0; i < 300; i++)
        map["a key of some length, number " + std::to_string(i * number)].push_back(i);
    std::ostringstream text;
    for (const auto &entry : map)
        text << entry.first << ' ' << entry.second.size() << '\n';
    try {
        throw std::runtime_error(text.str());
    } catch (const std::exception &error) {
        return static_cast<int>(std::string(error.what()).size());
    }
}

int main(int argc, char **argv) {
    std::vector<std::thread> threads;
    for (int i = 1; i <= 4; i++)
        threads.emplace_back([i] { work(i); });
    for (auto &thread : threads)
        thread.join();
    void *library = dlopen("libz.so.1", RTLD_NOW);
    if (library != nullptr)
        dlclose(library);
    std::cout << work(7) << ' ' << std::regex_search("cadastre", std::regex("a.a.*e$")) << std::endl;
    for (int i = 0; argc > 1 && i < 4; i++)
        static_cast<char *volatile *>(std::malloc(static_cast<size_t>(std::atoi(argv[1]))))[0] = nullptr;
    return 0;
}
