/*
 * Shared memory regions: their names, that a new one is new, that its memory is reserved, and what happens when several
 * processes create, replace, attach and die at the same time. At most 24 MiB of /dev/shm are in use at once.
 */
#include "mapper/mapper.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/un.h>

enum { SIZE = 3 * 4096 + 5, RACERS = 4, RACES = 100, KILLS = 200 };

static void names_have_rules(void) {
    static char longest[NAME_MAX + 2], too_long[NAME_MAX + 3], much_too_long[1 << 16];
    const char *bad[] = {NULL, "", "/", "//", "name", "/a/b", "/a/", "//a", "/.", "/.."};
    snprintf(longest, sizeof longest, "%s%0*d", region("longest"), (int)(NAME_MAX + 1 - strlen(region("longest"))), 0);
    snprintf(too_long, sizeof too_long, "%s0", longest);
    memset(much_too_long, 'x', sizeof much_too_long - 1);
    much_too_long[0] = '/';
    for (size_t i = 0; i < COUNT(bad); i++) {
        expect_null(create_shared_region(bad[i], SIZE), EINVAL);
        expect_null(create_shared_region_ex(bad[i], SIZE, MAPPER_REPLACE, 0600), EINVAL);
        expect_null(attach_shared_region(bad[i], 0), EINVAL);
        expect_error(destroy_shared_region(bad[i]), EINVAL);
    }
    const char *beyond[] = {too_long, much_too_long};
    for (size_t i = 0; i < COUNT(beyond); i++) {
        expect_null(create_shared_region(beyond[i], SIZE), ENAMETOOLONG);
        expect_null(attach_shared_region(beyond[i], 0), ENAMETOOLONG);
        expect_error(destroy_shared_region(beyond[i]), ENAMETOOLONG);
    }
    check(strlen(longest) == 256, "%zu characters", strlen(longest));
    t_mapping *made = mapped(create_shared_region(longest, SIZE));
    check(strcmp(made->name, longest) == 0, "the name is %s", made->name);
    expect_ok(unmap(mapped(attach_shared_region(longest, 1))));
    expect_ok(unmap(made));
    expect_ok(destroy_shared_region(longest));
    check(!any_region(0), "something is left in " SHM);
}

static void a_name_is_taken_once(void) {
    const char *name = region("taken");
    t_mapping *made = mapped(create_shared_region(name, SIZE));
    pattern_write(made->addr, SIZE, 1);
    expect_null(create_shared_region(name, SIZE), EEXIST);
    expect_null(create_shared_region_ex(name, 1, 0, 0600), EEXIST);
    t_mapping *found = mapped(attach_shared_region(name, 0));
    check(found->size == SIZE && pattern_holds(found->addr, SIZE, 1), "the region was harmed");
    expect_ok(destroy_shared_region(name));
    expect_error(destroy_shared_region(name), ENOENT);
    expect_null(attach_shared_region(name, 0), ENOENT);
    check(pattern_holds(made->addr, SIZE, 1), "the mapping was harmed");
    expect_ok(mapping_check(made));
    expect_ok(unmap(found));
    expect_ok(unmap(made));
}

static void a_region_can_be_replaced(void) {
    const char *name = region("replaced");
    t_mapping *old = mapped(create_shared_region_ex(name, SIZE, MAPPER_REPLACE, 0600));
    pattern_write(old->addr, SIZE, 1);
    t_mapping *now = mapped(create_shared_region_ex(name, 2 * SIZE, MAPPER_REPLACE, 0600));
    check(is_zero(now->addr, 2 * SIZE) && pattern_holds(old->addr, SIZE, 1), "they are one");
    t_mapping *found = mapped(attach_shared_region(name, 1));
    pattern_write(found->addr, 2 * SIZE, 2);
    check(found->size == 2 * SIZE && pattern_holds(now->addr, 2 * SIZE, 2), "the old one was attached");
    check(pattern_holds(old->addr, SIZE, 1), "they are one");
    expect_ok(unmap(old));
    expect_ok(unmap(now));
    expect_ok(unmap(found));
}

static void arguments_are_looked_at(void) {
    const char *name = region("arguments");
    struct stat status;
    expect_null(create_shared_region(name, 0), EINVAL);
    expect_null(create_shared_region_ex(name, SIZE, 2, 0600), EINVAL);
    expect_null(create_shared_region_ex(name, SIZE, -1, 0600), EINVAL);
    expect_null(create_shared_region_ex(name, SIZE, 0, 01600), EINVAL);
    check(!any_region(0), "something is left in " SHM);
    umask(027);
    expect_ok(unmap(mapped(create_shared_region_ex(name, SIZE, 0, 0666))));
    check(stat(region_path("arguments"), &status) == 0 && (status.st_mode & 07777) == 0640, "mode %o", status.st_mode);
}

static void too_much_leaves_nothing(void) {
    struct statvfs shm;
    const char *name = region("much");
    size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 + 2, SIZE_MAX - page_size() + 2};
    int fds = count_fds();
    for (size_t i = 0; i < COUNT(sizes); i++)
        expect_null(create_shared_region(name, sizes[i]), ENOMEM);
    check(statvfs(SHM, &shm) == 0, "statvfs: %s", strerror(errno));
    if (shm.f_blocks > 0) /* else it has no limit */
        expect_null(create_shared_region(name, shm.f_blocks * shm.f_frsize + 1), ENOSPC);
    check(!any_region(0) && count_fds() == fds, "something is left");
}

static int write_text(const char *path, const char *format, unsigned id) {
    char text[64];
    int length = snprintf(text, sizeof text, format, id);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int written = fd >= 0 && write(fd, text, (size_t)length) == length;
    close(fd);
    return written;
}

/* Whoever is not root must be so in a name space of users. */
static int may_mount(void) {
    unsigned user = geteuid(), group = getegid();
    if (user == 0)
        return unshare(CLONE_NEWNS) == 0;
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_text("/proc/self/setgroups", "deny", 0) &&
           write_text("/proc/self/uid_map", "0 %u 1", user) && write_text("/proc/self/gid_map", "0 %u 1", group);
}

/* In a /dev/shm of the case's own, of 1 MiB. */
static void a_full_shm_is_noticed_at_once(void) {
    if (!may_mount() || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("mapper", SHM, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=1777") != 0)
        skip_case("cannot mount anything: %s", strerror(errno));
    t_mapping *first = mapped(create_shared_region(region("first"), 768 << 10));
    expect_null(create_shared_region(region("second"), 512 << 10), ENOSPC);
    check(access(region_path("second"), F_OK) != 0, "the second is left in " SHM);
    pattern_write(first->addr, first->size, 1);
    t_mapping *third = mapped(create_shared_region(region("third"), 256 << 10));
    memset(third->addr, 1, third->size); /* SIGBUS, were it not reserved */
    expect_null(create_shared_region_ex(region("third"), 512 << 10, MAPPER_REPLACE, 0600), ENOSPC);
    expect_ok(unmap(third));
    expect_ok(destroy_shared_region(region("first")));
    check(!any_region(0), "something is left in " SHM);
}

static void the_file_size_limit_is_an_error(void) {
    struct rlimit limit = {SIZE - 1, RLIM_INFINITY};
    check(setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit: %s", strerror(errno));
    expect_null(create_shared_region(region("limit"), SIZE), EFBIG);
    check(!any_region(0), "something is left in " SHM);
    expect_ok(unmap(mapped(create_shared_region(region("limit"), SIZE - 1))));
}

/* ------------------------------------------------------------------- regions that others are just creating */
/* As a creator leaves it that has not come further, or died there. */
static int make_empty(const char *which) {
    int fd = open(region_path(which), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    check(fd >= 0, "%s: %s", region_path(which), strerror(errno));
    return fd;
}

static void creation_is_waited_for(void) {
    for (int writable = 0; writable <= 1; writable++) {
        int fd = make_empty("slow");
        pid_t child = fork();
        if (child == 0) {
            wait_ms(100);
            _exit(ftruncate(fd, SIZE) != 0);
        }
        t_mapping *found = mapped(attach_shared_region(region("slow"), writable));
        check(found->size == SIZE, "%zu bytes", found->size);
        expect_ok(unmap(found));
        expect_child(child);
        close(fd);
        expect_ok(destroy_shared_region(region("slow")));
    }
}

static void not_for_ever(void) {
    close(make_empty("crashed"));
    int fds = count_fds();
    expect_null(attach_shared_region(region("crashed"), 1), ETIMEDOUT);
    check(count_fds() == fds, "%d descriptors are left open", count_fds() - fds);
    expect_null(create_shared_region(region("crashed"), SIZE), EEXIST);
    expect_ok(unmap(mapped(create_shared_region_ex(region("crashed"), SIZE, MAPPER_REPLACE, 0600))));
    expect_ok(unmap(mapped(attach_shared_region(region("crashed"), 1))));
}

static void a_creator_may_give_up(void) {
    close(make_empty("given-up"));
    pid_t child = fork();
    if (child == 0) {
        wait_ms(50);
        _exit(destroy_shared_region(region("given-up")) != 0);
    }
    expect_null(attach_shared_region(region("given-up"), 1), ENOENT);
    expect_child(child);
}

static void or_be_replaced(void) {
    close(make_empty("next"));
    pid_t child = fork();
    if (child == 0) {
        wait_ms(50);
        _exit(create_shared_region_ex(region("next"), SIZE, MAPPER_REPLACE, 0600) == NULL);
    }
    expect_ok(unmap(mapped(attach_shared_region(region("next"), 1))));
    expect_child(child);
}

static void other_things_are_no_regions(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *name = region("other");
    int fds = count_fds();
    for (int kind = 0; kind < 4; kind++) {
        int expected[] = {ELOOP, EISDIR, ENODEV, ENODEV};
        int end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        snprintf(address.sun_path, sizeof address.sun_path, "%s", region_path("other"));
        int made = kind == 0   ? symlink(make_file("target", SIZE, 1), region_path("other"))
                   : kind == 1 ? mkdir(region_path("other"), 0700)
                   : kind == 2 ? mkfifo(region_path("other"), 0600)
                               : bind(end, (struct sockaddr *)&address, sizeof address);
        check(made == 0, "kind %d: %s", kind, strerror(errno));
        close(end);
        expect_null(attach_shared_region(name, 0), expected[kind]);
        expect_null(attach_shared_region(name, 1), expected[kind]);
        expect_null(create_shared_region(name, SIZE), EEXIST);
        check(remove(region_path("other")) == 0, "remove: %s", strerror(errno));
    }
    check(file_is(scratch("target"), SIZE, 1), "the file behind the link was changed");
    check(count_fds() == fds, "%d descriptors are left open", count_fds() - fds);
}

/* ------------------------------------------------------------------------------------- signals and races */
static atomic_int signals;

static void on_alarm(int number) {
    (void)number;
    atomic_fetch_add(&signals, 1);
}

/* The handler does not ask for system calls to be restarted, and a large region takes longer than the pauses. */
static void signals_do_not_disturb(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    size_t size = mem_bound(24 * MIB);
    diag("%zu bytes", size);
    close(make_empty("awaited"));
    sigaction(SIGVTALRM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    pid_t child = fork();
    if (child == 0) {
        wait_ms(200);
        _exit(truncate(region_path("awaited"), SIZE) != 0);
    }
    setitimer(ITIMER_REAL, &often, NULL);
    expect_ok(unmap(mapped(attach_shared_region(region("awaited"), 1))));
    for (int i = 0; i < 5; i++) {
        t_mapping *made = mapped(create_shared_region(region("large"), size));
        check(made->size == size, "%zu bytes", made->size);
        expect_ok(sync_mapping(made, MS_SYNC));
        expect_ok(unmap(made));
        expect_ok(destroy_shared_region(region("large")));
    }
    setitimer(ITIMER_REAL, &never, NULL);
    expect_child(child);
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    check(!sigismember(&blocked, SIGALRM) && !sigismember(&blocked, SIGTERM), "signals stay blocked");
    check(atomic_load(&signals) > 100, "only %d signals came", atomic_load(&signals));
}

/* Starts when all of them are there. */
static void race(_Atomic int *ready, t_mapping *(*create)(const char *), int *made) {
    atomic_fetch_add(ready, 1);
    while (atomic_load(ready) % RACERS != 0)
        sched_yield();
    t_mapping *mapping = create(region("raced"));
    *made = mapping != NULL;
    if (mapping && (!is_zero(mapping->addr, SIZE) || mapping_check(mapping) != 0))
        _exit(1);
    if (!mapping && errno != EEXIST)
        _exit(2);
}

static t_mapping *create_new(const char *name) {
    return create_shared_region(name, SIZE);
}

static t_mapping *create_anyway(const char *name) {
    return create_shared_region_ex(name, SIZE, MAPPER_REPLACE, 0600);
}

static void creators_race(t_mapping *(*create)(const char *), int fewest, int most) {
    struct {
        _Atomic int ready, made;
    } *shared = mapped(map_anonymous(sizeof *shared, 1))->addr;
    for (int round = 0; round < RACES; round++) {
        pid_t children[RACERS];
        shared->ready = shared->made = 0;
        for (int i = 0; i < RACERS; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                int made;
                race(&shared->ready, create, &made);
                atomic_fetch_add(&shared->made, made);
                _exit(0);
            }
        }
        for (int i = 0; i < RACERS; i++)
            expect_child(children[i]);
        check(shared->made >= fewest && shared->made <= most, "%d of %d got it", shared->made, RACERS);
        t_mapping *found = mapped(attach_shared_region(region("raced"), 0));
        check(found->size == SIZE, "%zu bytes", found->size);
        expect_ok(unmap(found));
        expect_ok(destroy_shared_region(region("raced")));
        check(!any_region(0), "there was a second");
    }
}

static void one_of_many_creates(void) {
    creators_race(create_new, 1, 1);
}

static void all_of_many_replace(void) {
    creators_race(create_anyway, RACERS, RACERS);
}

/* Whatever was left there, and whether or not it was complete. */
static void creators_are_killed(void) {
    const char *name = region("killed");
    struct rng rng = rng_stream(6, 1);
    for (int i = 0; i < ROUNDS(KILLS); i++) {
        pid_t child = fork();
        if (child == 0) {
            for (;;) {
                t_mapping *made = create_shared_region_ex(name, MIB, MAPPER_REPLACE, 0600);
                if (!made || unmap(made) != 0 || destroy_shared_region(name) != 0)
                    _exit(1);
            }
        }
        usleep((useconds_t)rng_between(&rng, 0, 3000));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        check(WIFSIGNALED(status), "a creator failed: %#x", status);
        t_mapping *made = mapped(create_shared_region_ex(name, SIZE, MAPPER_REPLACE, 0600));
        t_mapping *found = mapped(attach_shared_region(name, 1));
        check(made->size == SIZE && found->size == SIZE && is_zero(found->addr, SIZE), "it is not new");
        expect_ok(unmap(made));
        expect_ok(unmap(found));
        expect_ok(destroy_shared_region(name));
    }
}

static const struct test_case cases[] = {
    {"names have rules", names_have_rules},
    {"a name is taken once, and destroyed once", a_name_is_taken_once},
    {"a region can be replaced; who has the old one keeps it", a_region_can_be_replaced},
    {"size, flags and mode are looked at", arguments_are_looked_at},
    {"what is too large leaves nothing", too_much_leaves_nothing},
    {"a full " SHM " is noticed by the creator", a_full_shm_is_noticed_at_once},
    {"RLIMIT_FSIZE is an error, and no signal", the_file_size_limit_is_an_error},
    {"a region that is being created is waited for", creation_is_waited_for},
    {"but not for ever", not_for_ever},
    {"its creator may give up", a_creator_may_give_up},
    {"or be replaced", or_be_replaced},
    {"links, directories, FIFOs and sockets are no regions", other_things_are_no_regions},
    {"signals do not disturb", signals_do_not_disturb},
    {"of those who create at once, one does", one_of_many_creates},
    {"of those who replace at once, all do, and one region is there", all_of_many_replace},
    {"a creator killed at any instant leaves what can be replaced", creators_are_killed},
};

MAIN_OF_MAPPER_CASES(cases)
