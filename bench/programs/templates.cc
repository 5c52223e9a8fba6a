// The C++ source that gcc.sh compiles; it is never run.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Shape {
    std::string name;
    std::vector<int> sides;
    bool operator<(const Shape &other) const {
        return std::tie(sides, name) < std::tie(other.sides, other.name);
    }
};

using AnyShape = std::variant<Shape<1>, Shape<2>, Shape<3>, Shape<4>, Shape<5>, Shape<6>>;

namespace {

template <int N> std::map<Shape<N>, std::vector<std::shared_ptr<AnyShape>>> group(const std::vector<AnyShape> &all) {
    std::map<Shape<N>, std::vector<std::shared_ptr<AnyShape>>> groups;
    for (const auto &shape : all)
        if (auto *wanted = std::get_if<Shape<N>>(&shape))
            groups[*wanted].push_back(std::make_shared<AnyShape>(shape));
    for (auto &[key, members] : groups)
        std::stable_sort(members.begin(), members.end(), [](auto &a, auto &b) { return *a < *b; });
    return groups;
}

template <int N> std::string describe(const std::vector<AnyShape> &all) {
    static const std::regex pattern("([a-z]+)-([0-9]{" + std::to_string(N) + "})");
    std::unordered_map<std::string, std::set<std::string>> found;
    for (const auto &[key, members] : group<N>(all)) {
        std::smatch match;
        if (std::regex_match(key.name, match, pattern))
            found[match[1]].insert(match[2]);
    }
    std::ostringstream out;
    for (const auto &[name, numbers] : found)
        out << name << ' ' << std::accumulate(numbers.begin(), numbers.end(), std::string()) << '\n';
    return out.str();
}

} // namespace

std::vector<std::function<std::string(const std::vector<AnyShape> &)>> descriptions() {
    return {describe<1>, describe<2>, describe<3>, describe<4>, describe<5>, describe<6>};
}
