/*
 * The ten things that memory_mapper is for, each once from end to end, with sizes of several pages and a part.
 */
#include "mapper/mapper.h"

#include <stdatomic.h>

enum { SIZE = 5 * 4096 + 123 };

static void file_is_read(void) {
    const char *path = make_file("read", SIZE, 1);
    t_mapping *file = mapped(map_file(path, 0));
    check(file->size == SIZE && pattern_holds(file->addr, SIZE, 1), "size %zu, or other bytes", file->size);
    check(file->prot == PROT_READ && file->flags == MAP_PRIVATE, "prot %d, flags %d", file->prot, file->flags);
    check(strcmp(file->name, path) == 0 && file->name != path, "name %s", file->name);
    check(fcntl(file->fd, F_GETFD) == FD_CLOEXEC, "fd %d would be inherited", file->fd);
    check((fcntl(file->fd, F_GETFL) & O_ACCMODE) == O_RDONLY, "fd %d can be written to", file->fd);
    expect_ok(unmap(file));
}

static void file_is_written(void) {
    const char *path = make_file("written", SIZE, 1);
    t_mapping *file = mapped(map_file(path, 1));
    check(file->prot == (PROT_READ | PROT_WRITE) && file->flags == MAP_SHARED, "prot %d, flags %d", file->prot,
          file->flags);
    check(pattern_holds(file->addr, SIZE, 1), "other bytes");
    pattern_write(file->addr, SIZE, 2);
    expect_ok(sync_mapping(file, MS_SYNC));
    check(file_is(path, SIZE, 2), "the file does not have what was written");
    expect_ok(unmap(file));
    check(file_is(path, SIZE, 2), "the file lost what was written");
}

static void in_child(t_mapping *mapping) {
    pid_t child = fork();
    if (child == 0) {
        int held = pattern_holds(mapping->addr, SIZE, 1);
        pattern_write(mapping->addr, SIZE, 2);
        _exit(!held);
    }
    expect_child(child);
}

static void anonymous_is_private(void) {
    t_mapping *memory = mapped(map_anonymous(SIZE, 0));
    check(memory->size == SIZE && memory->fd == -1 && memory->name == NULL, "size %zu, fd %d", memory->size,
          memory->fd);
    check(memory->flags == (MAP_PRIVATE | MAP_ANONYMOUS) && memory->prot == (PROT_READ | PROT_WRITE), "flags %d",
          memory->flags);
    check(is_zero(memory->addr, SIZE), "not zero");
    pattern_write(memory->addr, SIZE, 1);
    in_child(memory);
    check(pattern_holds(memory->addr, SIZE, 1), "the child's writes are seen");
    expect_ok(unmap(memory));
}

static void anonymous_is_shared_with_children(void) {
    t_mapping *memory = mapped(map_anonymous(SIZE, 1));
    check(memory->flags == (MAP_SHARED | MAP_ANONYMOUS) && memory->fd == -1, "flags %d", memory->flags);
    check(is_zero(memory->addr, SIZE), "not zero");
    pattern_write(memory->addr, SIZE, 1);
    in_child(memory);
    check(pattern_holds(memory->addr, SIZE, 2), "the child's writes are not seen");
    expect_ok(unmap(memory));
}

static void region_is_created(void) {
    const char *name = region("created");
    struct stat status;
    t_mapping *made = mapped(create_shared_region(name, SIZE));
    check(made->size == SIZE && made->flags == MAP_SHARED && made->prot == (PROT_READ | PROT_WRITE), "flags %d",
          made->flags);
    check(strcmp(made->name, name) == 0 && made->name != name, "name %s", made->name);
    check(fcntl(made->fd, F_GETFD) == FD_CLOEXEC, "fd %d would be inherited", made->fd);
    check(stat(region_path("created"), &status) == 0 && S_ISREG(status.st_mode), "it is not in " SHM);
    check(status.st_size == SIZE && (status.st_mode & 07777) == 0600, "size %jd, mode %o", (intmax_t)status.st_size,
          status.st_mode);
    check(status.st_blocks * 512 >= SIZE, "only %jd bytes are reserved", (intmax_t)status.st_blocks * 512);
    check(is_zero(made->addr, SIZE), "not zero");
    expect_ok(unmap(made));
    expect_ok(destroy_shared_region(name));
}

static void region_is_attached(void) {
    const char *name = region("attached");
    t_mapping *made = mapped(create_shared_region(name, SIZE));
    t_mapping *reader = mapped(attach_shared_region(name, 0)), *writer = mapped(attach_shared_region(name, 1));
    check(reader->size == SIZE && reader->prot == PROT_READ && reader->flags == MAP_SHARED, "prot %d", reader->prot);
    check(writer->size == SIZE && writer->prot == (PROT_READ | PROT_WRITE), "prot %d", writer->prot);
    check(made->addr != reader->addr && made->addr != writer->addr, "one address twice");
    pattern_write(made->addr, SIZE, 3);
    check(pattern_holds(reader->addr, SIZE, 3) && pattern_holds(writer->addr, SIZE, 3), "not the creator's bytes");
    pattern_write(writer->addr, SIZE, 4);
    check(pattern_holds(reader->addr, SIZE, 4) && pattern_holds(made->addr, SIZE, 4), "not the writer's bytes");
    expect_ok(unmap(made));
    expect_ok(unmap(writer));
    expect_ok(destroy_shared_region(name));
    check(pattern_holds(reader->addr, SIZE, 4), "what is mapped went with the name");
    expect_ok(unmap(reader));
    check(!any_region(0), "something is left in " SHM);
}

/* Two programs that know no more of each other than a name. The first word says whose turn it is. */
static void wait_for(_Atomic int *turn, int whose) {
    for (int ms = 0; atomic_load(turn) != whose; ms++) {
        check(ms < 30000, "turn %d never came", whose);
        wait_ms(1);
    }
}

static void first_program(void) {
    t_mapping *made = mapped(create_shared_region(region("programs"), SIZE));
    _Atomic int *turn = made->addr;
    char *data = (char *)made->addr + sizeof *turn;
    pattern_write(data, SIZE - sizeof *turn, 5);
    atomic_store(turn, 1);
    wait_for(turn, 2);
    check(pattern_holds(data, SIZE - sizeof *turn, 6), "not what the second wrote");
    expect_ok(unmap(made));
    expect_ok(destroy_shared_region(region("programs")));
}

static void second_program(void) {
    t_mapping *found = NULL;
    for (int ms = 0; ms < 30000 && !(found = attach_shared_region(region("programs"), 1)); ms++)
        wait_ms(1);
    _Atomic int *turn = mapped(found)->addr;
    char *data = (char *)found->addr + sizeof *turn;
    wait_for(turn, 1);
    check(pattern_holds(data, SIZE - sizeof *turn, 5), "not what the first wrote");
    pattern_write(data, SIZE - sizeof *turn, 6);
    atomic_store(turn, 2);
    expect_ok(unmap(found));
}

static void two_programs_meet(void) {
    pid_t first = start_case("first", NULL, NULL, STDERR_FILENO);
    pid_t second = start_case("second", NULL, NULL, STDERR_FILENO);
    expect_child(first);
    expect_child(second);
    check(!any_region(0), "something is left in " SHM);
}

static char *volatile forbidden;

static void on_fault(int number, siginfo_t *information, void *context) {
    (void)context;
    _exit(number == SIGSEGV && information->si_code == SEGV_ACCERR && information->si_addr == forbidden ? 42 : 1);
}

static void expect_fault(t_mapping *mapping, size_t at) {
    pid_t child = fork();
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
        sigaction(SIGSEGV, &action, NULL);
        sigaction(SIGBUS, &action, NULL);
        forbidden = (char *)mapping->addr + at;
        *forbidden = 1;
        _exit(0);
    }
    int status;
    check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42,
          "byte %zu can be written: status %#x", at, status);
}

static void read_only_is_read_only(void) {
    t_mapping *file = mapped(map_file(make_file("read-only", SIZE, 1), 0));
    t_mapping *memory = mapped(map_anonymous(SIZE, 0));
    t_mapping *made = mapped(create_shared_region(region("read-only"), SIZE));
    t_mapping *reader = mapped(attach_shared_region(region("read-only"), 0));
    expect_ok(protect_mapping(memory, PROT_READ));
    check(memory->prot == PROT_READ, "prot %d", memory->prot);
    t_mapping *all[] = {file, memory, reader};
    for (size_t i = 0; i < COUNT(all); i++) {
        expect_fault(all[i], 0);
        expect_fault(all[i], SIZE - 1);
    }
    expect_ok(unmap(reader));
    expect_ok(unmap(made));
    expect_ok(unmap(memory));
    expect_ok(unmap(file));
}

/* Neither memory nor descriptor nor object; nor the handle itself. */
static void unmap_leaves_nothing(void) {
    t_mapping *(*kinds[])(const char *, int) = {map_file, attach_shared_region};
    const char *path = make_file("nothing", SIZE, 1);
    expect_ok(unmap(mapped(map_anonymous(1, 0)))); /* what is done once is done */
    int fds = count_fds();
    t_mapping *made = mapped(create_shared_region(region("nothing"), SIZE));
    t_mapping *all[] = {made,
                        mapped(kinds[0](path, 0)),
                        mapped(kinds[0](path, 1)),
                        mapped(kinds[1](region("nothing"), 0)),
                        mapped(kinds[1](region("nothing"), 1)),
                        mapped(map_anonymous(SIZE, 0)),
                        mapped(map_anonymous(SIZE, 1))};
    check(count_fds() == fds + 5, "%d descriptors were opened", count_fds() - fds);
    for (size_t i = 0; i < COUNT(all); i++) {
        t_mapping was = *all[i];
        check(mapped_pages(was.addr, SIZE) == (SIZE + page_size() - 1) / page_size(), "mapping %zu has holes", i);
        expect_ok(unmap(all[i]));
        check(mapped_pages(was.addr, SIZE) == 0, "of mapping %zu, %zu pages are left", i, mapped_pages(was.addr, SIZE));
        check(mapped_pages(all[i], 1) == 0, "the handle of mapping %zu is left", i);
        check(was.fd < 0 || fcntl(was.fd, F_GETFD) < 0, "descriptor %d is left open", was.fd);
    }
    check(count_fds() == fds, "%d descriptors are left open", count_fds() - fds);
    expect_ok(destroy_shared_region(region("nothing")));
    check(!any_region(0), "something is left in " SHM);
}

static void invalid_path_is_refused(void) {
    for (int writable = 0; writable <= 1; writable++) {
        expect_null(map_file(scratch("missing"), writable), ENOENT);
        expect_null(map_file(scratch("missing/too"), writable), ENOENT);
        check(access(scratch("missing"), F_OK) != 0, "the file was made");
    }
}

static const struct test_case cases[] = {
    {"a file is read", file_is_read},
    {"a file is written, and has it after sync_mapping", file_is_written},
    {"anonymous memory is private", anonymous_is_private},
    {"anonymous memory is shared with children", anonymous_is_shared_with_children},
    {"a region is created", region_is_created},
    {"a region is attached, and both see the same", region_is_attached},
    {"two unrelated programs meet in a region", two_programs_meet},
    {"a write to a page that is read-only raises SIGSEGV", read_only_is_read_only},
    {"unmap leaves nothing in maps, descriptors and " SHM, unmap_leaves_nothing},
    {"an invalid path gives NULL, and errno", invalid_path_is_refused},
};

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : NULL;
    if (name && (strcmp(name, "first") == 0 || strcmp(name, "second") == 0)) {
        test_id = atoi(getenv("MAPPER_TEST"));
        (strcmp(name, "first") == 0 ? first_program : second_program)();
        return 0;
    }
    return run_mapper_cases(cases, COUNT(cases), name);
}
