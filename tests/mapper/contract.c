/*
 * What each call does with each kind of argument, as memory_mapper.h has it: files, anonymous memory, sync_mapping and
 * protect_mapping. Regions have a test of their own.
 */
#include "mapper/mapper.h"

#include <sys/socket.h>
#include <sys/un.h>

enum { SIZE = 3 * 4096 + 5 };

static void what_is_no_file_is_refused(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fds = count_fds();
    int end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", scratch("socket"));
    check(bind(end, (struct sockaddr *)&address, sizeof address) == 0, "socket: %s", strerror(errno));
    close(end);
    mkfifo(scratch("fifo"), 0600);
    check(symlink("loop", scratch("loop")) == 0, "symlink: %s", strerror(errno));
    make_file("empty", 0, 0);
    make_file("file", SIZE, 1);
    for (int writable = 0; writable <= 1; writable++) {
        expect_null(map_file(NULL, writable), EINVAL);
        expect_null(map_file("", writable), EINVAL);
        expect_null(map_file(scratch("file/more"), writable), ENOTDIR);
        expect_null(map_file(scratch("loop"), writable), ELOOP);
        expect_null(map_file(scratch(""), writable), EISDIR);
        expect_null(map_file(scratch("fifo"), writable), ENODEV);
        expect_null(map_file(scratch("socket"), writable), ENODEV);
        expect_null(map_file("/dev/null", writable), ENODEV);
        expect_null(map_file("/dev/tty", writable), ENODEV);
        expect_null(map_file(scratch("empty"), writable), EINVAL);
        expect_null(map_file("/proc/self/status", 0), EINVAL);
    }
    check(count_fds() == fds, "%d descriptors are left open", count_fds() - fds);
}

/* By paths relative to a directory that anybody may enter, wherever that is. */
static void permissions_hold(void) {
    uid_t user = geteuid();
    make_file("unreadable", SIZE, 1);
    make_file("unwritable", SIZE, 1);
    check(chmod(scratch(""), 0755) == 0 && chdir(scratch("")) == 0, "%s: %s", scratch(""), strerror(errno));
    check(chmod("unreadable", 0) == 0 && chmod("unwritable", 0444) == 0, "chmod: %s", strerror(errno));
    if (user == 0 && seteuid(65534) != 0)
        skip_case("cannot become a user without rights");
    expect_null(map_file("unreadable", 0), EACCES);
    expect_null(map_file("unwritable", 1), EACCES);
    expect_ok(unmap(mapped(map_file("unwritable", 0))));
    check(seteuid(user) == 0, "seteuid: %s", strerror(errno));
}

static void a_long_path_is_kept(void) {
    char path[PATH_MAX];
    size_t length = strlen(make_file("file", SIZE, 1));
    strcpy(path, scratch(""));
    while (strlen(path) + length - strlen(scratch("")) + 2 < sizeof path)
        strcat(path, "/."); /* the same directory */
    strcat(path, "/file");
    path[sizeof path - 1] = '\0';
    t_mapping *file = mapped(map_file(path, 0));
    check(strcmp(file->name, path) == 0 && pattern_holds(file->addr, SIZE, 1), "the path is %s", file->name);
    expect_ok(unmap(file));
    memset(path, 'x', sizeof path - 1);
    expect_null(map_file(path, 0), ENAMETOOLONG);
}

/* Reading is private: it may be made writable, and the file does not see what is written. */
static void a_private_file_is_copied_on_write(void) {
    const char *path = make_file("private", SIZE, 1);
    t_mapping *file = mapped(map_file(path, 0));
    expect_ok(protect_mapping(file, PROT_READ | PROT_WRITE));
    pattern_write(file->addr, SIZE, 2);
    expect_ok(sync_mapping(file, MS_SYNC));
    check(file_is(path, SIZE, 1), "the file was changed");
    expect_ok(unmap(file));
    check(file_is(path, SIZE, 1), "the file was changed");
}

static void sizes_of_files_are_kept(void) {
    size_t page = page_size();
    size_t sizes[] = {1, page - 1, page, page + 1, 3 * page};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t size = sizes[i] < 1 << 16 ? sizes[i] : 1 << 16;
        t_mapping *file = mapped(map_file(make_file("sized", size, 1), 1));
        t_mapping was = *file;
        check(file->size == size && pattern_holds(file->addr, size, 1), "%zu bytes give %zu", size, file->size);
        expect_ok(sync_mapping(file, MS_SYNC));
        expect_ok(unmap(file));
        check(mapped_pages(was.addr, size) == 0, "of %zu bytes some are left", size);
    }
}

static void anonymous_sizes(void) {
    size_t page = page_size();
    size_t good[] = {1, page - 1, page, page + 1, 10 * page};
    size_t too_much[] = {SIZE_MAX, SIZE_MAX - page + 2, SIZE_MAX / 2};
    for (int shared = 0; shared <= 1; shared++) {
        expect_null(map_anonymous(0, shared), EINVAL);
        for (size_t i = 0; i < COUNT(too_much); i++)
            expect_null(map_anonymous(too_much[i], shared), ENOMEM);
        for (size_t i = 0; i < COUNT(good); i++) {
            t_mapping *memory = mapped(map_anonymous(good[i], shared));
            check(memory->size == good[i] && is_zero(memory->addr, good[i]), "%zu bytes give %zu", good[i],
                  memory->size);
            pattern_write(memory->addr, good[i], 1);
            expect_ok(unmap(memory));
        }
    }
}

static void sync_flags(void) {
    int good[] = {MS_SYNC, MS_ASYNC, MS_SYNC | MS_INVALIDATE, MS_ASYNC | MS_INVALIDATE};
    int bad[] = {0, MS_INVALIDATE, MS_SYNC | MS_ASYNC, MS_SYNC | MS_ASYNC | MS_INVALIDATE, MS_SYNC | 0x100, -1};
    t_mapping *all[] = {mapped(map_file(make_file("synced", SIZE, 1), 1)), mapped(map_file(scratch("synced"), 0)),
                        mapped(create_shared_region(region("synced"), SIZE)), mapped(map_anonymous(SIZE, 0)),
                        mapped(map_anonymous(SIZE, 1))};
    for (size_t i = 0; i < COUNT(all); i++) {
        for (size_t n = 0; n < COUNT(good); n++)
            expect_ok(sync_mapping(all[i], good[n]));
        for (size_t n = 0; n < COUNT(bad); n++)
            expect_error(sync_mapping(all[i], bad[n]), EINVAL);
        expect_ok(unmap(all[i]));
    }
}

static void protections(void) {
    int good[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE};
    int bad[] = {8, PROT_READ | 0x10, PROT_GROWSDOWN | PROT_READ, -1};
    t_mapping *memory = mapped(map_anonymous(SIZE, 0));
    for (size_t i = 0; i < COUNT(good); i++) {
        expect_ok(protect_mapping(memory, good[i]));
        check(memory->prot == good[i], "prot %d after %d", memory->prot, good[i]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        expect_error(protect_mapping(memory, bad[i]), EINVAL);
        check(memory->prot == (PROT_READ | PROT_WRITE), "prot %d after a failure", memory->prot);
    }
    pattern_write(memory->addr, SIZE, 1);
    expect_ok(unmap(memory));
}

/* Every page of several, and nothing beside them. */
static void protections_hold_everywhere(void) {
    size_t page = page_size();
    t_mapping *memory = mapped(map_anonymous(4 * page + 1, 0));
    char byte = 1;
    expect_ok(protect_mapping(memory, PROT_READ));
    for (size_t at = 0; at < memory->size; at += page)
        expect_error(mapping_write(memory, at, &byte, 1), EFAULT);
    expect_ok(protect_mapping(memory, PROT_NONE));
    for (size_t at = 0; at < memory->size; at += page)
        expect_error(mapping_read(memory, at, &byte, 1), EFAULT);
    expect_ok(protect_mapping(memory, PROT_READ | PROT_WRITE));
    pattern_write(memory->addr, memory->size, 1);
    expect_ok(unmap(memory));
}

static void what_was_attached_to_read_stays_so(void) {
    t_mapping *made = mapped(create_shared_region(region("readers"), SIZE));
    t_mapping *reader = mapped(attach_shared_region(region("readers"), 0));
    expect_error(protect_mapping(reader, PROT_READ | PROT_WRITE), EACCES);
    check(reader->prot == PROT_READ, "prot %d", reader->prot);
    expect_ok(protect_mapping(made, PROT_READ));
    expect_ok(protect_mapping(made, PROT_READ | PROT_WRITE));
    expect_ok(unmap(reader));
    expect_ok(unmap(made));
}

static const struct test_case cases[] = {
    {"what is no file is refused, without blocking", what_is_no_file_is_refused},
    {"permissions hold", permissions_hold},
    {"a path of 4,095 characters is kept", a_long_path_is_kept},
    {"a file that is read is copied on write", a_private_file_is_copied_on_write},
    {"files of any size keep it", sizes_of_files_are_kept},
    {"anonymous memory has the size asked for, if there can be so much", anonymous_sizes},
    {"sync_mapping wants one of MS_SYNC and MS_ASYNC", sync_flags},
    {"protect_mapping records what holds", protections},
    {"and it holds for every page", protections_hold_everywhere},
    {"what was attached to be read cannot be made writable", what_was_attached_to_read_stays_so},
};

MAIN_OF_MAPPER_CASES(cases)
