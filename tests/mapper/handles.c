/*
 * Handles: what is none is refused by every call and harms nobody, also when it was one and the kernel has long given
 * its memory to others; what is written into one changes nothing; and none costs more than it gives back.
 */
#include "mapper/mapper.h"

#include <sys/resource.h>

enum { SIZE = 2 * 4096 + 77, MANY = 3000, CYCLES = ROUNDS(10000) };

static void expect_no_handle(t_mapping *pointer) {
    char byte = 0;
    expect_error(unmap(pointer), EINVAL);
    expect_error(sync_mapping(pointer, MS_ASYNC), EINVAL);
    expect_error(protect_mapping(pointer, PROT_NONE), EINVAL);
    expect_error(mapping_check(pointer), EINVAL);
    expect_error(mapping_read(pointer, 0, &byte, 1), EINVAL);
    expect_error(mapping_write(pointer, 0, &byte, 1), EINVAL);
}

static void other_pointers_are_refused(void) {
    t_mapping *real = mapped(map_anonymous(SIZE, 0));
    t_mapping copy = *real;
    pattern_write(real->addr, SIZE, 1);
    expect_no_handle(NULL);
    expect_no_handle(&copy);
    expect_no_handle(real->addr);
    expect_no_handle((t_mapping *)((char *)real + 8));
    expect_no_handle((t_mapping *)((char *)real + 1));
    expect_no_handle((t_mapping *)-1);
    expect_no_handle((t_mapping *)(uintptr_t)4096);
    check(pattern_holds(real->addr, SIZE, 1) && real->prot == (PROT_READ | PROT_WRITE), "the mapping was changed");
    expect_ok(unmap(real));
    expect_no_handle(real);
}

/* The kernel gives out at once what was just given back: the next mapping is likely to lie where the last one did. */
static void a_second_unmap_harms_nobody(void) {
    static t_mapping *old[MANY];
    t_mapping *before = NULL;
    for (size_t i = 0; i < MANY; i++) {
        t_mapping *now = mapped(i % 2 ? map_anonymous(SIZE, 0) : map_file(make_file("twice", SIZE, 2), 0));
        expect_error(unmap(before), EINVAL);
        expect_error(unmap(old[i / 2]), EINVAL);
        check(mapped_pages(now->addr, SIZE) > 2 && now->size == SIZE, "mapping %zu was harmed", i);
        expect_ok(unmap(now));
        expect_error(unmap(now), EINVAL);
        before = old[i] = now;
    }
}

static int compare(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

static void no_handle_comes_twice(void) {
    static t_mapping *old[MANY];
    for (size_t i = 0; i < MANY; i++) {
        t_mapping *between = mapped(map_anonymous(SIZE << (i % 12), 0));
        old[i] = mapped(map_anonymous(1, 0));
        expect_ok(unmap(i % 3 ? old[i] : between));
        expect_ok(unmap(i % 3 ? between : old[i]));
    }
    qsort(old, MANY, sizeof *old, compare);
    for (size_t i = 1; i < MANY; i++)
        check(old[i - 1] != old[i], "%p came twice", (void *)old[i]);
}

/* Something of the program's lies where the next handle would. */
static void handles_give_way(void) {
    t_mapping *first = mapped(map_anonymous(1, 0));
    for (int i = 0; i < 5; i++) {
        char *below = (char *)first - 4 * page_size();
        void *taken = mmap(below, 4 * page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(taken == below, "the place below a handle is not free");
        pattern_write(taken, 4 * page_size(), 1);
        t_mapping *next = mapped(map_anonymous(1, 0));
        check(next < first && pattern_holds(taken, 4 * page_size(), 1), "a handle at %p, after %p", (void *)next,
              (void *)first);
        expect_ok(unmap(first));
        first = next;
    }
    expect_ok(unmap(first));
}

static void what_is_written_into_a_handle_does_not_matter(void) {
    t_mapping *other = mapped(map_anonymous(SIZE, 0));
    t_mapping *file = mapped(map_file(make_file("scribbled", SIZE, 1), 1));
    t_mapping was = *file;
    pattern_write(other->addr, SIZE, 1);
    *file = *other;
    file->fd = STDOUT_FILENO;
    expect_ok(protect_mapping(file, PROT_READ));
    expect_ok(mapping_check(file));
    memset(file, 0xFF, sizeof *file);
    expect_ok(unmap(file));
    check(mapped_pages(was.addr, SIZE) == 0 && fcntl(was.fd, F_GETFD) < 0, "it is not gone");
    check(fcntl(STDOUT_FILENO, F_GETFD) >= 0, "another descriptor was closed");
    pattern_write(other->addr, SIZE, 2);
    expect_ok(unmap(other));
}

static void many_live_at_once(void) {
    static t_mapping *all[MANY];
    struct rng rng = rng_stream(6, 0);
    for (size_t i = 0; i < MANY; i++) {
        all[i] = mapped(map_anonymous(1 + i, 0));
        *(unsigned *)all[i]->addr = (unsigned)i;
    }
    size_t left = MANY;
    for (size_t round = 0; left > 0; round++) {
        size_t i = rng_between(&rng, 0, left - 1);
        check(all[i]->size == *(unsigned *)all[i]->addr + 1u, "another mapping's handle");
        expect_ok(mapping_check(all[i]));
        if (round % 3 == 0)
            continue;
        expect_ok(unmap(all[i]));
        expect_no_handle(all[i]);
        all[i] = all[--left];
    }
}

/* One of each kind. */
static void cycle(const char *path, const char *name) {
    t_mapping *made = mapped(create_shared_region(name, 5000));
    expect_error(unmap((t_mapping *)made->addr), EINVAL);
    expect_null(create_shared_region(name, 5000), EEXIST);
    expect_null(map_file(path + 1, 0), ENOENT);
    t_mapping *all[] = {made,
                        mapped(attach_shared_region(name, 0)),
                        mapped(attach_shared_region(name, 1)),
                        mapped(map_file(path, 0)),
                        mapped(map_file(path, 1)),
                        mapped(map_anonymous(5000, 0)),
                        mapped(map_anonymous(5000, 1))};
    for (size_t i = 0; i < COUNT(all); i++)
        expect_ok(unmap(all[i]));
    expect_ok(destroy_shared_region(name));
}

static void ten_thousand_cycles(void) {
    struct rlimit files = {64, 64};
    const char *path = make_file("cycles", SIZE, 1), *name = region("cycles");
    check(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit: %s", strerror(errno));
    int fds = count_fds();
    size_t maps = 0;
    for (int i = 0; i < CYCLES; i++) {
        cycle(path, name);
        if (i == CYCLES / 10)
            maps = mappings();
    }
    check(count_fds() == fds, "%d descriptors are left open", count_fds() - fds);
    check(mappings() <= maps + 2, "of %zu mappings it has come to %zu", maps, mappings());
}

static const struct test_case cases[] = {
    {"what is no handle is refused by every call", other_pointers_are_refused},
    {"a second unmap harms nobody, however late it comes", a_second_unmap_harms_nobody},
    {"no handle comes twice", no_handle_comes_twice},
    {"handles give way to what is there", handles_give_way},
    {"what is written into a handle does not matter", what_is_written_into_a_handle_does_not_matter},
    {"3,000 live at once, unmapped in any order", many_live_at_once},
    {"10,000 cycles of every kind with 64 descriptors", ten_thousand_cycles},
};

MAIN_OF_MAPPER_CASES(cases)
