/*
 * A plugin in C++ for a program in C, which has no C++ library in sight: what its operators new do when there is
 * nothing to give.
 */
#include <cstddef>
#include <new>

static int handled;

static void give_up() {
    handled++;
    std::set_new_handler(nullptr);
}

static bool throws(std::size_t size) {
    try {
        operator delete(operator new(size));
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

/* The request that cannot be met, by each kind of operator; the number of what is wrong, or 0. */
extern "C" int plugin_fails_well(std::size_t too_large) {
    handled = 0;
    if (!throws(too_large))
        return 1;
    if (operator new(too_large, std::nothrow))
        return 2;
    std::set_new_handler(give_up);
    if (!throws(too_large) || handled != 1)
        return 3;
    std::set_new_handler(give_up);
    if (operator new(too_large, std::nothrow) || handled != 2)
        return 4;
    return 0;
}
