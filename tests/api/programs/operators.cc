/*
 * C++'s operators new and delete in every form: what they give, and what they do when there is nothing to give.
 * Prints "fine", or what is wrong on standard error. usage: operators forms|failures|exhausted|exhausted-threads|whose
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>
#include <pthread.h>
#include <string>
#include <sys/resource.h>
#include <unistd.h>

/* In rival.cc: how many blocks its operators new have given. Absent where that library is not loaded. */
extern "C" size_t rival_taken() __attribute__((weak));

#define check(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fprintf(stderr, "; failed: %s (%s:%d)\n", #condition, __FILE__, __LINE__);                                 \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

namespace {

constexpr std::align_val_t ALIGNMENT{4096};
constexpr auto ALIGNED_TO = static_cast<size_t>(ALIGNMENT);

/* An operator new and one of the operators delete that may take its blocks. */
struct form {
    const char *name;
    bool throws;
    size_t alignment;
    void *(*take)(size_t size);
    void (*give)(void *block, size_t size);
};

const form forms[] = {
    {"new, delete", true, 16, [](size_t n) { return operator new(n); }, [](void *p, size_t) { operator delete(p); }},
    {"new, sized delete", true, 16, [](size_t n) { return operator new(n); },
     [](void *p, size_t n) { operator delete(p, n); }},
    {"nothrow new and delete", false, 16, [](size_t n) { return operator new(n, std::nothrow); },
     [](void *p, size_t) { operator delete(p, std::nothrow); }},
    {"aligned new and delete", true, ALIGNED_TO, [](size_t n) { return operator new(n, ALIGNMENT); },
     [](void *p, size_t) { operator delete(p, ALIGNMENT); }},
    {"aligned new, sized delete", true, ALIGNED_TO, [](size_t n) { return operator new(n, ALIGNMENT); },
     [](void *p, size_t n) { operator delete(p, n, ALIGNMENT); }},
    {"aligned nothrow new and delete", false, ALIGNED_TO,
     [](size_t n) { return operator new(n, ALIGNMENT, std::nothrow); },
     [](void *p, size_t) { operator delete(p, ALIGNMENT, std::nothrow); }},
    {"new[], delete[]", true, 16, [](size_t n) { return operator new[](n); },
     [](void *p, size_t) { operator delete[](p); }},
    {"new[], sized delete[]", true, 16, [](size_t n) { return operator new[](n); },
     [](void *p, size_t n) { operator delete[](p, n); }},
    {"nothrow new[] and delete[]", false, 16, [](size_t n) { return operator new[](n, std::nothrow); },
     [](void *p, size_t) { operator delete[](p, std::nothrow); }},
    {"aligned new[] and delete[]", true, ALIGNED_TO, [](size_t n) { return operator new[](n, ALIGNMENT); },
     [](void *p, size_t) { operator delete[](p, ALIGNMENT); }},
    {"aligned new[], sized delete[]", true, ALIGNED_TO, [](size_t n) { return operator new[](n, ALIGNMENT); },
     [](void *p, size_t n) { operator delete[](p, n, ALIGNMENT); }},
    {"aligned nothrow new[] and delete[]", false, ALIGNED_TO,
     [](size_t n) { return operator new[](n, ALIGNMENT, std::nothrow); },
     [](void *p, size_t) { operator delete[](p, ALIGNMENT, std::nothrow); }},
};

/* ------------------------------------------------------------------------------------------------ every form */
size_t live_bytes() {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Beside each block a neighbour from malloc. A block that is not ours would be reported by malloc_usable_size. */
void use(const form &form) {
    static const size_t sizes[] = {0, 1, 24, 100, 1024, 5000, 70000, 1 << 20};
    constexpr size_t COUNT = sizeof sizes / sizeof *sizes;
    unsigned char *blocks[COUNT];
    void *neighbours[COUNT];
    size_t before = live_bytes(), taken = 0;
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = static_cast<unsigned char *>(form.take(sizes[i]));
        neighbours[i] = malloc(sizes[i]);
        check(blocks[i] && neighbours[i], "%s: nothing for %zu bytes", form.name, sizes[i]);
        check(reinterpret_cast<uintptr_t>(blocks[i]) % form.alignment == 0, "%s: %p", form.name, blocks[i]);
        size_t usable = malloc_usable_size(blocks[i]);
        check(usable >= sizes[i], "%s: %zu bytes for %zu", form.name, usable, sizes[i]);
        taken += usable + malloc_usable_size(neighbours[i]);
        memset(blocks[i], static_cast<int>(i), sizes[i]);
        memset(neighbours[i], 255, sizes[i]);
    }
    check(live_bytes() == before + taken, "%s: live bytes %zu, then %zu, not %zu more", form.name, before, live_bytes(),
          taken);
    for (size_t i = 0; i < COUNT; i++)
        for (size_t at = 0; at < sizes[i]; at++)
            check(blocks[i][at] == i, "%s: byte %zu of %zu changed", form.name, at, sizes[i]);
    for (size_t i = 0; i < COUNT; i++) {
        form.give(blocks[i], sizes[i]);
        free(neighbours[i]);
    }
    check(live_bytes() == before, "%s: %zu bytes were live, and now %zu", form.name, before, live_bytes());
    form.give(nullptr, 0);
}

/* The C++ library's own code takes and gives by the operators, too. */
void use_by_the_library() {
    size_t before = live_bytes();
    {
        std::string text;
        for (size_t i = 0; i < 100000; i++)
            text.push_back(static_cast<char>('a' + i % 26));
        check(malloc_usable_size(&text[0]) > text.size(), "a string's bytes are not ours");
    }
    check(live_bytes() == before, "a string left %zu bytes", live_bytes() - before);
}

void every_form() {
    for (const form &form : forms)
        use(form);
    use_by_the_library();
}

/* -------------------------------------------------------------------------------------------- nothing to give */
struct own_exception {};

int handled; /* calls of a new-handler */

void give_up_at_the_third() {
    if (++handled == 3)
        std::set_new_handler(nullptr);
}

void throw_own() {
    handled++;
    throw own_exception();
}

void throw_bad_alloc() {
    handled++;
    throw std::bad_alloc();
}

enum result { GIVEN, NOTHING, BAD_ALLOC, OWN_EXCEPTION };

/* What comes of a request, with this new-handler installed and called so many times. */
result request(const form &form, size_t size, std::new_handler handler, int calls) {
    result result;
    handled = 0;
    std::set_new_handler(handler);
    try {
        void *block = form.take(size);
        result = block ? GIVEN : NOTHING;
    } catch (const std::bad_alloc &) {
        result = BAD_ALLOC;
    } catch (const own_exception &) {
        result = OWN_EXCEPTION;
    }
    std::set_new_handler(nullptr);
    check(handled == calls, "%s of %zu: the handler was called %d times, not %d", form.name, size, handled, calls);
    return result;
}

constexpr size_t TOO_LARGE = SIZE_MAX / 2 + 1;

void failures() {
    static const size_t sizes[] = {SIZE_MAX - 2 * ALIGNED_TO, TOO_LARGE, SIZE_MAX / 2 - 65536};
    for (const form &form : forms) /* whoever fails or throws first may keep something for the next time */
        request(form, TOO_LARGE, nullptr, 0);
    size_t before = live_bytes();
    for (const form &form : forms) {
        result failed = form.throws ? BAD_ALLOC : NOTHING;
        for (size_t size : sizes)
            check(request(form, size, nullptr, 0) == failed, "%s of %zu", form.name, size);
        check(request(form, TOO_LARGE, give_up_at_the_third, 3) == failed, "%s with a handler", form.name);
        check(request(form, TOO_LARGE, throw_bad_alloc, 1) == failed, "%s, a handler throws bad_alloc", form.name);
        check(request(form, TOO_LARGE, throw_own, 1) == (form.throws ? OWN_EXCEPTION : NOTHING),
              "%s, a handler throws its own", form.name);
    }
    check(live_bytes() == before, "failed requests left %zu bytes", live_bytes() - before);
}

/* ------------------------------------------------------------------------------------------ memory really out */
constexpr size_t ROOM = 64 << 20;

void leave_room() {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    check(file && fscanf(file, "%lu", &pages) == 1, "no /proc/self/statm");
    fclose(file);
    struct rlimit limit;
    limit.rlim_cur = limit.rlim_max = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + ROOM;
    check(setrlimit(RLIMIT_AS, &limit) == 0, "no limit of the address space");
}

struct link {
    link *next;
};

/* Takes all there is, first in large and then in small pieces, each until std::bad_alloc. */
link *take_all() {
    link *taken = nullptr;
    for (size_t size : {4 << 20, 512 << 10, 64 << 10, 1024, 16}) {
        bool threw = false;
        while (!threw) {
            try {
                taken = new (operator new(size)) link{taken};
            } catch (const std::bad_alloc &) {
                threw = true;
            }
        }
    }
    return taken;
}

void give_all(link *taken) {
    while (taken) {
        void *block = taken;
        taken = taken->next;
        operator delete(block);
    }
}

void *reserve;

void give_reserve() {
    handled++;
    operator delete(reserve);
    reserve = nullptr;
    std::set_new_handler(nullptr);
}

void exhausted() {
    leave_room();
    reserve = operator new(1 << 20);
    link *taken = take_all();
    for (const form &form : forms)
        check(request(form, 1 << 20, nullptr, 0) == (form.throws ? BAD_ALLOC : NOTHING), "%s", form.name);
    check(request(forms[0], 512 << 10, give_reserve, 1) == GIVEN, "new, when its handler has freed something");
    give_all(taken);
    every_form();
}

pthread_barrier_t together;

/* Both have a stack before memory is short, and hold all there is before either gives any back. */
void *exhaust_and_go_on(void *) {
    if (pthread_barrier_wait(&together) == PTHREAD_BARRIER_SERIAL_THREAD)
        leave_room();
    pthread_barrier_wait(&together);
    link *taken = take_all();
    pthread_barrier_wait(&together);
    give_all(taken);
    pthread_barrier_wait(&together);
    operator delete(operator new(1 << 20));
    return nullptr;
}

void exhausted_threads() {
    pthread_t threads[2];
    pthread_barrier_init(&together, nullptr, 2);
    for (pthread_t &thread : threads)
        check(pthread_create(&thread, nullptr, exhaust_and_go_on, nullptr) == 0, "no thread");
    for (pthread_t &thread : threads)
        pthread_join(thread, nullptr);
}

/* Whether another library's operators are in effect: the test's own check that they would be. */
const char *whose() {
    size_t before = rival_taken ? rival_taken() : 0;
    operator delete(operator new(100));
    return rival_taken && rival_taken() != before ? "the rival's" : "fine";
}

} // namespace

int main(int argc, char **argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    const char *verdict = "fine";
    if (what == "forms")
        every_form();
    else if (what == "failures")
        failures();
    else if (what == "exhausted")
        exhausted();
    else if (what == "exhausted-threads")
        exhausted_threads();
    else if (what == "whose")
        verdict = whose();
    else
        return 2;
    puts(verdict);
    return 0;
}
