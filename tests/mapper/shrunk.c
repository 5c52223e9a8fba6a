/*
 * Files and regions that become smaller while they are mapped: mapping_check finds it, mapping_read and mapping_write
 * give an error where the program itself would get SIGBUS, also when it happens just then. And what else they refuse.
 */
#include "mapper/mapper.h"

#include <pthread.h>

static size_t page;

/* Of a mapping of four pages and a part, two and a part are left. */
static void expect_shrunk(t_mapping *mapping, const char *path) {
    static char data[1 << 20];
    size_t left = 2 * page + 10;
    struct stat status;
    check(mapping->size < sizeof data, "%zu bytes are too many", mapping->size);
    expect_ok(mapping_check(mapping));
    check(truncate(path, (off_t)left) == 0, "truncate: %s", strerror(errno));
    expect_error(mapping_check(mapping), EFAULT);
    memset(data, 0, sizeof data);
    expect_ok(mapping_read(mapping, 0, data, left));
    check(data[0] && memcmp(data, mapping->addr, left) == 0, "not what is left");
    expect_error(mapping_read(mapping, 0, data, mapping->size), EFAULT);
    expect_error(mapping_read(mapping, 3 * page, data, 1), EFAULT);
    expect_error(mapping_read(mapping, 3 * page - 1, data, 2), EFAULT);
    expect_error(mapping_read(mapping, mapping->size - 1, data, 1), EFAULT);
    if (mapping->prot & PROT_WRITE) {
        expect_error(mapping_write(mapping, 3 * page, data, 1), EFAULT);
        expect_error(mapping_write(mapping, 0, data, mapping->size), EFAULT);
        expect_ok(mapping_write(mapping, 0, data, left));
    }
    check(stat(path, &status) == 0 && status.st_size == (off_t)left, "a copy made the file larger");
    check(truncate(path, (off_t)mapping->size) == 0, "truncate: %s", strerror(errno));
    expect_ok(mapping_check(mapping));
    expect_ok(mapping_read(mapping, 0, data, mapping->size));
    expect_ok(unmap(mapping));
}

static void files_shrink(void) {
    for (int writable = 0; writable <= 1; writable++) {
        const char *path = make_file("shrinks", 4 * page + 3, 1);
        expect_shrunk(mapped(map_file(path, writable)), path);
    }
}

static void regions_shrink(void) {
    for (int writable = 0; writable <= 1; writable++) {
        t_mapping *made = mapped(create_shared_region(region("shrinks"), 4 * page + 3));
        pattern_write(made->addr, made->size, 1);
        expect_shrunk(mapped(attach_shared_region(region("shrinks"), writable)), region_path("shrinks"));
        expect_ok(unmap(made));
        expect_ok(destroy_shared_region(region("shrinks")));
    }
}

static void to_nothing(void) {
    t_mapping *made = mapped(create_shared_region(region("nothing"), 4 * page));
    char byte = 1;
    check(truncate(region_path("nothing"), 0) == 0, "truncate: %s", strerror(errno));
    expect_error(mapping_check(made), EFAULT);
    expect_error(mapping_read(made, 0, &byte, 1), EFAULT);
    expect_error(mapping_write(made, 0, &byte, 1), EFAULT);
    expect_ok(unmap(made));
}

static void anonymous_memory_does_not(void) {
    for (int shared = 0; shared <= 1; shared++) {
        t_mapping *memory = mapped(map_anonymous(3 * page, shared));
        expect_ok(mapping_check(memory));
        expect_ok(unmap(memory));
    }
}

static void copies_are_copies(void) {
    static char here[1 << 20], back[1 << 20];
    size_t size = 4 * page + 3;
    check(size < sizeof here, "%zu bytes are too many", size);
    pattern_write(here, size, 7);
    t_mapping *made = mapped(create_shared_region(region("copies"), size));
    expect_ok(mapping_write(made, 0, here, size));
    check(memcmp(made->addr, here, size) == 0, "not what was written");
    expect_ok(mapping_read(made, 0, back, size));
    check(memcmp(back, here, size) == 0, "not what was there");
    expect_ok(mapping_write(made, page - 2, "four", 4));
    check(memcmp((char *)made->addr + page - 2, "four", 4) == 0, "not what was written");
    check(memcmp((char *)made->addr + page + 2, here + page + 2, 2 * page) == 0, "more was written");
    memset(back, 0, sizeof back);
    expect_ok(mapping_read(made, page - 1, back, 2));
    check(memcmp(back, "ou\0", 3) == 0, "more was read: %.5s", back);
    expect_ok(unmap(made));
}

/* Private changes are seen by mapping_read, and not by the file. */
static void private_copies(void) {
    const char *path = make_file("private", 2 * page, 1);
    char data[4] = "";
    t_mapping *file = mapped(map_file(path, 0));
    expect_error(mapping_write(file, page, "four", 4), EFAULT);
    expect_ok(protect_mapping(file, PROT_READ | PROT_WRITE));
    expect_ok(mapping_write(file, page, "four", 4));
    expect_ok(mapping_read(file, page, data, 4));
    check(memcmp(data, "four", 4) == 0, "not what was written");
    expect_ok(unmap(file));
    check(file_is(path, 2 * page, 1), "the file was changed");
}

static void bounds_hold(void) {
    t_mapping *memory = mapped(map_anonymous(page + 5, 0));
    char data[16] = "";
    expect_ok(mapping_read(memory, page + 4, data, 1));
    expect_ok(mapping_write(memory, page + 4, data, 1));
    expect_ok(mapping_read(memory, page + 5, data, 0));
    expect_ok(mapping_write(memory, 0, NULL, 0));
    size_t beyond[][2] = {{page + 5, 1}, {page + 4, 2}, {0, page + 6},        {page + 6, 0},
                          {SIZE_MAX, 1}, {1, SIZE_MAX}, {SIZE_MAX, SIZE_MAX}, {SIZE_MAX - 3, 8}};
    for (size_t i = 0; i < COUNT(beyond); i++) {
        expect_error(mapping_read(memory, beyond[i][0], data, beyond[i][1]), EINVAL);
        expect_error(mapping_write(memory, beyond[i][0], data, beyond[i][1]), EINVAL);
    }
    expect_error(mapping_read(memory, 0, NULL, 1), EFAULT);
    expect_error(mapping_write(memory, 0, (void *)(uintptr_t)8, 1), EFAULT);
    expect_ok(unmap(memory));
}

static atomic_int stop;

static void *shrink_and_grow(void *path) {
    while (!atomic_load(&stop))
        if (truncate(path, 1) != 0 || truncate(path, (off_t)(16 * page)) != 0)
            return path;
    return NULL;
}

static void at_any_time(void) {
    static char data[1 << 20];
    t_mapping *made = mapped(create_shared_region(region("any-time"), 16 * page));
    pthread_t thread;
    void *failed;
    int whole = 0, shrunk = 0;
    check(made->size <= sizeof data, "%zu bytes are too many", made->size);
    check(pthread_create(&thread, NULL, shrink_and_grow, (void *)region_path("any-time")) == 0, "no thread");
    for (int i = 0; i < 1000000 && (i < ROUNDS(20000) || !whole || !shrunk); i++) {
        int result = i % 2 ? mapping_read(made, 0, data, made->size) : mapping_write(made, 0, data, made->size);
        check(result == 0 || errno == EFAULT, "%s", strerror(errno));
        *(result == 0 ? &whole : &shrunk) += 1;
        result = mapping_check(made);
        check(result == 0 || errno == EFAULT, "%s", strerror(errno));
    }
    atomic_store(&stop, 1);
    pthread_join(thread, &failed);
    check(!failed, "truncate failed");
    check(whole > 0 && shrunk > 0, "%d copies were whole, %d were not", whole, shrunk);
    diag("%d copies were whole, %d were not", whole, shrunk);
    expect_ok(unmap(made));
}

static const struct test_case cases[] = {
    {"files shrink", files_shrink},
    {"regions shrink", regions_shrink},
    {"to nothing", to_nothing},
    {"anonymous memory does not", anonymous_memory_does_not},
    {"copies are copies", copies_are_copies},
    {"of a private mapping, too", private_copies},
    {"bounds hold", bounds_hold},
    {"at any time", at_any_time},
};

int main(int argc, char **argv) {
    page = page_size();
    return run_mapper_cases(cases, COUNT(cases), argc > 1 ? argv[1] : NULL);
}
