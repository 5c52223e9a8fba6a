/*
 * A program with an operator new and an operator delete of its own, which put a header before each block. By the
 * standard the forms that it has not replaced come to these two. Prints "fine".
 */
#include <cstdio>
#include <cstdlib>
#include <malloc.h>
#include <new>
#include <string>

static constexpr size_t HEADER = 64;

static long live, taken; /* one thread */

void *operator new(size_t size) {
    char *start = static_cast<char *>(malloc(size + HEADER));
    if (!start)
        throw std::bad_alloc();
    live++;
    taken++;
    return start + HEADER;
}

void operator delete(void *block) noexcept {
    if (!block)
        return;
    live--;
    free(static_cast<char *>(block) - HEADER);
}

static int faults;

/* After each form: it took one block from the operator above, and gave one to the operator below. */
static void expect(const char *form) {
    if (taken != 1 || live != 0) {
        fprintf(stderr, "%s: took %ld blocks from the program's operator new, %ld too few were given back\n", form,
                taken, live);
        faults++;
    }
    taken = live = 0;
}

int main() {
    const size_t size = 100;
    operator delete(operator new(size));
    expect("new, delete");
    operator delete(operator new(size), size);
    expect("new, sized delete");
    operator delete(operator new(size, std::nothrow), std::nothrow);
    expect("nothrow new and delete");
    operator delete[](operator new[](size));
    expect("new[], delete[]");
    operator delete[](operator new[](size), size);
    expect("new[], sized delete[]");
    operator delete[](operator new[](size, std::nothrow), std::nothrow);
    expect("nothrow new[] and delete[]");
    std::string(size, 'a').clear();
    expect("a string of the C++ library's");
    if (faults == 0)
        puts("fine");
    return faults != 0;
}
