/*
 * What each call does with each kind of argument, as ring_buffer.h has it: making and leaving rings, bytes, messages,
 * the end of the stream; what is left when it is all over.
 */
#include "ring/ring.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void bad_arguments_are_refused(void) {
    char long_name[300] = "/", byte = 0;
    memset(long_name + 1, 'a', 256);
    expect_null(create_ring_buffer(NULL, 10), EINVAL);
    expect_null(create_ring_buffer("ring", 10), EINVAL);
    expect_null(create_ring_buffer("/a/b", 10), EINVAL);
    expect_null(create_ring_buffer(long_name, 10), ENAMETOOLONG);
    expect_null(create_ring_buffer(ring_name("a"), 0), EINVAL);
    expect_null(create_ring_buffer(ring_name("a"), SIZE_MAX), ENOMEM);
    expect_null(create_ring_buffer_ex(ring_name("a"), 10, 4, 0600), EINVAL);
    expect_null(create_ring_buffer_ex(ring_name("a"), 10, 0, 01000), EINVAL);
    expect_null(attach_ring_buffer(NULL), EINVAL);
    expect_null(attach_ring_buffer(ring_name("none")), ENOENT);
    check(!any_region(0), "a failed create left something behind");

    t_ring_buffer *ring = a_ring(10, 0);
    expect_error(ring_write(NULL, &byte, 1), EINVAL);
    expect_error(ring_read(NULL, &byte, 1), EINVAL);
    expect_error(ring_write(ring, NULL, 1), EINVAL);
    expect_error(ring_read(ring, NULL, 1), EINVAL);
    expect_error(ring_write(ring, &byte, opaque_size(SIZE_MAX)), EINVAL);
    expect_error(ring_read(ring, &byte, opaque_size(SIZE_MAX)), EINVAL);
    expect_error(ring_close(NULL), EINVAL);
    destroy_ring_buffer(ring);
    destroy_ring_buffer(NULL);
}

static void a_ring_is_made_once(void) {
    t_ring_buffer *ring = opened(create_ring_buffer(ring_name("a"), 100));
    struct stat region;
    check(fstat(ring->mapping->fd, &region) == 0 && (region.st_mode & 0777) == 0600, "its mode is %o", region.st_mode);
    check(ring->capacity == 100 && *ring->head == 0 && *ring->tail == 0, "it is not an empty ring of 100 bytes");
    expect_null(create_ring_buffer(ring_name("a"), 100), EEXIST);
    expect(ring_write(ring, "abc", 3), 3);

    /* What a creator that crashed has left. The old ring stays what it was; its end leaves the new one's name alone. */
    umask(0);
    t_ring_buffer *other = opened(create_ring_buffer_ex(ring_name("a"), 50, RING_REPLACE, 0640));
    check(fstat(other->mapping->fd, &region) == 0 && (region.st_mode & 0777) == 0640, "its mode is %o", region.st_mode);
    check(other->capacity == 50 && *other->head == 0, "it is not a new one");
    char text[4] = "";
    expect(ring_read(ring, text, 4), 3);
    check(strcmp(text, "abc") == 0, "the old one has %s", text);
    destroy_ring_buffer(ring);
    ring = opened(attach_ring_buffer(ring_name("a")));
    check(ring->capacity == 50, "the name is another ring's");
    destroy_ring_buffer(other);
    destroy_ring_buffer(ring);
    check(!any_region(0), "something is left in /dev/shm");
}

static void what_is_no_ring_is_refused(void) {
    const char *name = ring_name("region");
    t_mapping *small = create_shared_region(name, 100);
    expect_null(attach_ring_buffer(name), EINVAL);
    unmap(small);
    t_mapping *region = create_shared_region_ex(name, RING_DATA + 10, MAPPER_REPLACE, 0600);
    struct ring_shared *shared = region->addr;
    expect_null(attach_ring_buffer(name), ETIMEDOUT); /* it might have been one in the making */
    shared->magic = RING_MAGIC + 1;
    expect_null(attach_ring_buffer(name), EINVAL);
    shared->magic = RING_MAGIC;
    expect_null(attach_ring_buffer(name), EBADMSG);
    shared->capacity = 11;
    expect_null(attach_ring_buffer(name), EBADMSG);
    shared->capacity = 10;
    shared->flags = 0x80;
    expect_null(attach_ring_buffer(name), EBADMSG);
    shared->flags = 0;
    shared->pid_namespace = 1;
    expect_null(attach_ring_buffer(name), EXDEV);
    shared->pid_namespace = 0;
    destroy_ring_buffer(opened(attach_ring_buffer(name)));
    destroy_shared_region(name);
    unmap(region);
}

static void *make_ready(void *shared) {
    usleep(20000);
    atomic_store(&((struct ring_shared *)shared)->magic, RING_MAGIC);
    return NULL;
}

static void a_ring_in_the_making_is_waited_for(void) {
    t_mapping *region = create_shared_region(ring_name("region"), RING_DATA + 10);
    struct ring_shared *shared = region->addr;
    shared->capacity = 10;
    pthread_t thread = thread_begins(make_ready, shared);
    destroy_ring_buffer(opened(attach_ring_buffer(ring_name("region"))));
    thread_ends(thread);
    destroy_shared_region(ring_name("region"));
    unmap(region);
}

/* Every place of every small ring as the beginning of every length. */
static void any_capacity_wraps_around(void) {
    static const size_t capacities[] = {1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 64, 100};
    for (size_t i = 0; i < COUNT(capacities); i++) {
        size_t capacity = capacities[i];
        unsigned char in[128], out[128], next = 0;
        uint64_t position = 0;
        t_ring_buffer *ring = a_ring(capacity, 0);
        for (size_t length = 1; length <= capacity; length++) {
            for (size_t times = 0; times <= capacity; times++) {
                for (size_t at = 0; at < length; at++)
                    in[at] = next++;
                expect(ring_write(ring, in, length), length);
                if (length == capacity)
                    expect_error(ring_try_write(ring, in, 1), EAGAIN);
                position += length;
                check(*ring->head == position && *ring->tail == position - length, "the positions are wrong");
                memset(out, 0, sizeof out);
                expect(ring_read(ring, out, sizeof out), length);
                check(memcmp(in, out, length) == 0, "%zu bytes of %zu came back changed", length, capacity);
                expect_error(ring_try_read(ring, out, 1), EAGAIN);
            }
        }
        destroy_ring_buffer(ring);
    }
}

static void full_and_empty_are_told_apart(void) {
    char out[8];
    t_ring_buffer *ring = a_ring(8, 0);
    expect(ring_write(ring, "", 0), 0);
    expect(ring_read(ring, out, 0), 0);
    expect(ring_try_read(ring, NULL, 0), 0);
    expect(ring_try_write(ring, "abcdefgh", 8), 8);
    expect_error(ring_try_write(ring, "i", 1), EAGAIN);
    expect_error(ring_timed_write(ring, "i", 1, 0), ETIMEDOUT);
    expect_error(ring_timed_write(ring, "i", 1, 20), ETIMEDOUT);
    expect(ring_try_read(ring, out, 3), 3);
    expect_error(ring_try_write(ring, "ijkl", 4), EAGAIN); /* all or nothing */
    expect(*ring->head, 8);
    expect(ring_timed_write(ring, "ijk", 3, -1), 3);
    expect(ring_read(ring, out, 8), 8);
    check(memcmp(out, "defghijk", 8) == 0, "it gave %.8s", out);
    expect_error(ring_try_read(ring, out, 1), EAGAIN);
    expect_error(ring_timed_read(ring, out, 1, 0), ETIMEDOUT);
    expect_error(ring_timed_read(ring, out, 1, 20), ETIMEDOUT);
    destroy_ring_buffer(ring);
}

static void what_is_longer_than_the_ring_goes_as_far_as_there_is_room(void) {
    char out[8];
    t_ring_buffer *ring = a_ring(4, 0);
    expect(ring_try_write(ring, "abcdefgh", 8), 4);
    expect_error(ring_try_write(ring, "efgh!", 5), EAGAIN);
    expect(ring_read(ring, out, 1), 1);
    expect(ring_timed_write(ring, "efgh!", 5, 20), 1);
    expect(ring_read(ring, out, 8), 4);
    check(memcmp(out, "bcde", 4) == 0, "it gave %.4s", out);
    destroy_ring_buffer(ring);
}

static void after_the_end_is_read_what_is_left(void) {
    char out[8];
    for (int flags = 0; flags <= RING_SPSC; flags += RING_SPSC) {
        t_ring_buffer *ring = a_ring(8, flags);
        expect(ring_write(ring, "abc", 3), 3);
        expect(ring_close(ring), 0);
        expect(ring_close(ring), 0);
        check(*ring->head == (3 | RING_ENDED), "the head is %zx", *ring->head);
        expect_error(ring_write(ring, "d", 1), EPIPE);
        expect_error(ring_try_write(ring, "d", 1), EPIPE);
        expect_error(ring_timed_write(ring, "d", 1, 10), EPIPE);
        expect(ring_read(ring, out, 2), 2);
        expect(ring_read(ring, out, 2), 1);
        for (int again = 0; again < 2; again++) {
            expect(ring_read(ring, out, 2), 0);
            expect(ring_try_read(ring, out, 2), 0);
            expect(ring_timed_read(ring, out, 2, 10), 0);
        }
        destroy_ring_buffer(ring);
    }
}

static void messages_keep_their_boundaries(void) {
    char out[32];
    for (int flags = 0; flags <= RING_SPSC; flags += RING_SPSC) {
        t_ring_buffer *ring = a_ring(21, flags);
        for (int round = 0; round < 100; round++) {
            expect(ring_write_message(ring, "one", 3), 3);
            expect(ring_write_message(ring, "seven77", 7), 7);
            expect_error(ring_try_write_message(ring, "", 1), EAGAIN); /* 3 bytes are left, and it takes 5 */
            expect_error(ring_read_message(ring, out, 2), EMSGSIZE);
            expect(ring_read_message(ring, out, sizeof out), 3);
            check(memcmp(out, "one", 3) == 0, "it gave %.3s", out);
            expect(ring_try_read_message(ring, out, 7), 7);
            check(memcmp(out, "seven77", 7) == 0, "it gave %.7s", out);
            expect_error(ring_try_read_message(ring, out, 7), EAGAIN);
            expect_error(ring_timed_read_message(ring, out, 7, 1), ETIMEDOUT);
        }
        expect_error(ring_write_message(ring, "", 0), EINVAL);
        expect_error(ring_read_message(ring, out, 0), EINVAL);
        expect_error(ring_write_message(ring, "18 bytes and more...", 18), EMSGSIZE);
        expect(ring_timed_write_message(ring, "17 bytes and more...", 17, 1), 17);
        expect_error(ring_timed_write_message(ring, "1", 1, 1), ETIMEDOUT);
        expect(ring_close(ring), 0);
        expect_error(ring_write_message(ring, "1", 1), EPIPE);
        expect(ring_read_message(ring, out, sizeof out), 17);
        expect(ring_read_message(ring, out, sizeof out), 0);
        destroy_ring_buffer(ring);
    }
    t_ring_buffer *ring = a_ring(3, 0);
    expect_error(ring_write_message(ring, "", 1), EMSGSIZE);
    destroy_ring_buffer(ring);
}

static void a_ring_is_one_of_bytes_or_of_messages(void) {
    char out[8];
    t_ring_buffer *ring = a_ring(20, 0);
    expect(ring_write_message(ring, "one", 3), 3);
    expect_error(ring_read(ring, out, 8), EPROTO);
    expect_error(ring_write(ring, out, 8), EPROTO);
    expect(ring_read_message(ring, out, 8), 3);
    destroy_ring_buffer(ring);
    ring = a_ring(20, 0);
    expect_error(ring_try_read(ring, out, 8), EAGAIN); /* the reader may be the first as well */
    expect_error(ring_write_message(ring, "one", 3), EPROTO);
    expect_error(ring_read_message(ring, out, 8), EPROTO);
    expect(ring_write(ring, "one", 3), 3);
    destroy_ring_buffer(ring);
}

static void the_second_writer_is_told_so(void) {
    char out[8];
    t_ring_buffer *ring = a_ring(20, RING_SPSC);
    t_ring_buffer *other = opened(attach_ring_buffer(ring_name("ring")));
    t_ring_buffer *third = opened(attach_ring_buffer(ring_name("ring")));
    expect(ring_write(ring, "abc", 3), 3);
    expect_error(ring_write(other, "abc", 3), EBUSY);
    expect(ring_read(other, out, 2), 2);
    expect_error(ring_read(ring, out, 2), EBUSY);
    expect_error(ring_try_read(third, out, 2), EBUSY);
    destroy_ring_buffer(other); /* gives its role up */
    expect(ring_read(third, out, 2), 1);

    /* A child is another process, although its handle is the same. */
    pid_t pid = child_begins();
    if (pid == 0) {
        expect_error(ring_write(ring, "abc", 3), EBUSY);
        expect_error(ring_try_read(third, out, 1), EBUSY);
        destroy_ring_buffer(ring);
        destroy_ring_buffer(third);
        _exit(0);
    }
    expect_child(pid);
    expect(ring_write(ring, "def", 3), 3);
    expect(ring_read(third, out, 3), 3);
    expect(atomic_load(&shared_of(ring)->writers.inherited) + atomic_load(&shared_of(ring)->readers.inherited), 0);
    destroy_ring_buffer(third);
    destroy_ring_buffer(ring);
}

static void only_the_creator_ends_it(void) {
    char out[8];
    t_ring_buffer *ring = opened(create_ring_buffer(ring_name("a"), 20));
    destroy_ring_buffer(opened(attach_ring_buffer(ring_name("a"))));
    for (int generation = 0; generation < 2; generation++) {
        pid_t pid = child_begins();
        if (pid == 0) {
            if (generation == 1) { /* a child's child */
                pid = child_begins();
                if (pid)
                    expect_child(pid);
            }
            expect(ring_write(ring, "abc", 3), 3);
            destroy_ring_buffer(ring);
            ring = opened(attach_ring_buffer(ring_name("a")));
            expect(ring_write(ring, "abc", 3), 3);
            destroy_ring_buffer(ring);
            _exit(0);
        }
        expect_child(pid);
    }
    for (int i = 0; i < 6; i++)
        expect(ring_try_read(ring, out, 3), 3);
    expect_error(ring_try_read(ring, out, 3), EAGAIN);

    t_ring_buffer *other = opened(attach_ring_buffer(ring_name("a")));
    expect(ring_write(ring, "last", 4), 4);
    destroy_ring_buffer(ring);
    check(!any_region(0), "its name is still there");
    expect_null(attach_ring_buffer(ring_name("a")), ENOENT);
    expect_error(ring_write(other, "abc", 3), EPIPE);
    expect(ring_read(other, out, 8), 4);
    expect(ring_read(other, out, 8), 0);
    destroy_ring_buffer(other);
}

/* What /proc/self/maps has, but for what malloc and the sanitizers have in it: regions of ours. */
static size_t mapped_regions(void) {
    char line[1024];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (fgets(line, sizeof line, maps))
        count += strstr(line, "ring-test-") != NULL;
    fclose(maps);
    return count;
}

static void nothing_is_left(void) {
    struct rlimit few = {64, 64};
    setrlimit(RLIMIT_NOFILE, &few);
    char out[8];
    for (int i = 0; i < 10000 / SLOWER; i++) {
        t_ring_buffer *ring = a_ring(10, i % 2 ? RING_SPSC : 0);
        t_ring_buffer *other = opened(attach_ring_buffer(ring_name("ring")));
        expect(ring_write(ring, "abc", 3), 3);
        expect(ring_read(other, out, 8), 3);
        if (i == 0)
            check(mapped_regions() == 2, "two handles have %zu regions", mapped_regions());
        destroy_ring_buffer(i % 3 ? ring : other);
        destroy_ring_buffer(i % 3 ? other : ring);
    }
    check(mapped_regions() == 0, "%zu regions are left", mapped_regions());
    check(!any_region(0), "something is left in /dev/shm");
}

static void create_fails(int resource, rlim_t limit, int error) {
    struct rlimit before, now;
    getrlimit(resource, &before);
    now = (struct rlimit){limit, before.rlim_max};
    setrlimit(resource, &now);
    expect_null(create_ring_buffer(ring_name("a"), 10), error);
    setrlimit(resource, &before);
    check(!any_region(0), "something is left in /dev/shm");
    check(mapped_regions() == 0, "%zu regions are left", mapped_regions());
}

/* Pages, of all kinds. */
static size_t mapped_pages(void) {
    char text[64] = "";
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    check(read(file, text, sizeof text - 1) > 0, "statm: %s", strerror(errno));
    close(file);
    return strtoul(text, NULL, 10);
}

static void a_failed_create_is_undone(void) {
    const char *small = ring_name("small"), *name = ring_name("ring");
    t_mapping *region = create_shared_region(small, 100);
    t_ring_buffer *ring = a_ring(10, 0);
    size_t before = mapped_pages();
    for (int i = 0; i < 100; i++) {
        expect_null(create_ring_buffer(name, 10), EEXIST);
        expect_null(attach_ring_buffer(small), EINVAL);
    }
    check(mapped_pages() < before + 50, "%zu pages are left", mapped_pages() - before);
    check(mapped_regions() == 2, "%zu regions are left", mapped_regions() - 2);
    destroy_ring_buffer(ring);
    destroy_shared_region(small);
    unmap(region);
    create_fails(RLIMIT_NOFILE, 3, EMFILE);
    create_fails(RLIMIT_FSIZE, RING_DATA, EFBIG);
    if (SLOWER == 1) /* a sanitizer's shadow takes all addresses */
        create_fails(RLIMIT_AS, 0, ENOMEM);
}

static const struct test_case cases[] = {
    {"bad arguments are refused", bad_arguments_are_refused},
    {"a ring is made once, or anew with RING_REPLACE", a_ring_is_made_once},
    {"what is no ring, or a damaged one, is refused", what_is_no_ring_is_refused},
    {"a ring in the making is waited for", a_ring_in_the_making_is_waited_for},
    {"any capacity wraps around", any_capacity_wraps_around},
    {"full and empty are told apart, and nothing waits that should not", full_and_empty_are_told_apart},
    {"what is longer than the ring goes as far as there is room",
     what_is_longer_than_the_ring_goes_as_far_as_there_is_room},
    {"after the end what is left is read, then 0", after_the_end_is_read_what_is_left},
    {"messages keep their boundaries", messages_keep_their_boundaries},
    {"a ring is one of bytes or of messages", a_ring_is_one_of_bytes_or_of_messages},
    {"with RING_SPSC the second writer or reader gets EBUSY", the_second_writer_is_told_so},
    {"only its creator ends a ring; others detach", only_the_creator_ends_it},
    {"10,000 times, with 64 descriptors, and nothing is left", nothing_is_left},
    {"a failed create or attach is undone", a_failed_create_is_undone},
};

MAIN_OF_RING_CASES(cases)
