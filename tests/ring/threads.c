/*
 * Threads at one ring: on one handle, and on one for each. Who waits, what wakes him, and that no byte is lost,
 * changed, given twice or given to the wrong place, however many write and read.
 */
#include "ring/ring.h"
#include "threads/random.h"

enum { WRITERS = 3, READERS = 3, WRITES = 6000 / SLOWER, STREAM = (1 << 20) / SLOWER };

static uint64_t seed;

/* ------------------------------------------------------------------------------------------- one to one */

/* The whole of a stream in pieces of random lengths: byte i of it is a function of i. */
struct stream {
    t_ring_buffer *ring;
    size_t length, largest; /* of all, and of a piece */
    uint64_t number;
};

static unsigned char stream_byte(uint64_t position) {
    return (unsigned char)(position * 7 + (position >> 8) * 31);
}

static void *write_stream(void *argument) {
    struct stream *stream = argument;
    struct rng rng = rng_stream(seed, stream->number);
    unsigned char *piece = malloc(stream->largest);
    for (uint64_t done = 0; done < stream->length;) {
        size_t length = rng_between(&rng, 1, stream->largest);
        length = length < stream->length - done ? length : stream->length - done;
        for (size_t i = 0; i < length; i++)
            piece[i] = stream_byte(done + i);
        expect(ring_write(stream->ring, piece, length), length);
        done += length;
    }
    free(piece);
    ring_close(stream->ring);
    return NULL;
}

static void read_stream(const struct stream *stream, size_t largest) {
    struct rng rng = rng_stream(seed, stream->number + 1);
    unsigned char *piece = malloc(largest);
    uint64_t done = 0;
    for (;;) {
        ssize_t length = ring_read(stream->ring, piece, rng_between(&rng, 1, largest));
        if (length == 0)
            break;
        check(length > 0, "%s", strerror(errno));
        for (ssize_t i = 0; i < length; i++)
            check(piece[i] == stream_byte(done + (uint64_t)i), "byte %zu is wrong", (size_t)done + (size_t)i);
        done += (uint64_t)length;
    }
    check(done == stream->length, "%zu bytes came", (size_t)done);
    free(piece);
}

/* Rings smaller and larger than the pieces: in the smallest, each write is longer than the ring. */
static void a_stream_comes_as_it_was_written(void) {
    static const struct {
        size_t capacity, written, read;
    } shapes[] = {{3, 20000, 20000}, {97, 97, 97}, {1000, 300, 3000}, {4096, 9000, 700}, {65536, 64, 64}};
    seed = random_seed();
    for (size_t i = 0; i < COUNT(shapes); i++) {
        for (int flags = 0; flags <= RING_SPSC; flags += RING_SPSC) {
            struct stream stream = {
                .ring = a_ring(shapes[i].capacity, flags),
                .length = shapes[i].capacity < 64 ? STREAM / 32 : STREAM,
                .largest = shapes[i].written,
                .number = 2 * i,
            };
            pthread_t writer = thread_begins(write_stream, &stream);
            read_stream(&stream, shapes[i].read);
            thread_ends(writer);
            destroy_ring_buffer(stream.ring);
        }
    }
}

/* ----------------------------------------------------------------------------------------- many to many */

/* What is written in one piece: of so many bytes, by that writer, his how-manieth; the rest follows from these. */
struct record {
    uint32_t length;
    uint16_t writer, number;
    unsigned char bytes[248];
};

enum { HEAD = offsetof(struct record, bytes) };

static unsigned char record_byte(const struct record *record, size_t i) {
    return (unsigned char)(record->writer * 41 + record->number * 13 + i);
}

static struct many {
    t_ring_buffer *handles[WRITERS + READERS]; /* may all be the same */
    int framed;
    atomic_uint writers_left;
    _Atomic unsigned char seen[WRITERS][WRITES];
    atomic_size_t records;
} many;

static void *write_records(void *number) {
    uintptr_t writer = (uintptr_t)number;
    struct rng rng = rng_stream(seed, writer);
    t_ring_buffer *ring = many.handles[writer];
    for (unsigned i = 0; i < WRITES; i++) {
        struct record record = {.writer = (uint16_t)writer, .number = (uint16_t)i};
        size_t body = rng_between(&rng, 0, sizeof record.bytes);
        record.length = (uint32_t)(HEAD + body);
        for (size_t at = 0; at < body; at++)
            record.bytes[at] = record_byte(&record, at);
        expect(many.framed ? ring_write_message(ring, &record, record.length)
                           : ring_write(ring, &record, record.length),
               record.length);
    }
    if (atomic_fetch_sub(&many.writers_left, 1) == 1)
        ring_close(ring);
    return NULL;
}

static void check_record(const struct record *record, uint32_t *next) {
    check(record->writer < WRITERS && record->number < WRITES && record->length <= sizeof *record,
          "what came is no record: writes were interleaved");
    for (size_t at = 0; at < record->length - HEAD; at++)
        check(record->bytes[at] == record_byte(record, at), "a record came changed");
    check(record->number >= next[record->writer], "a writer's records came in another order");
    next[record->writer] = record->number + 1u;
    check(atomic_fetch_add(&many.seen[record->writer][record->number], 1) == 0, "a record came twice");
    atomic_fetch_add(&many.records, 1);
}

/* Any number of readers of messages. */
static void *read_messages(void *number) {
    t_ring_buffer *ring = many.handles[WRITERS + (uintptr_t)number];
    uint32_t next[WRITERS] = {0};
    struct record record;
    ssize_t length;
    while ((length = ring_read_message(ring, &record, sizeof record)) > 0) {
        check(record.length == length, "%zd bytes are not the message of %u", length, record.length);
        check_record(&record, next);
    }
    check(length == 0, "%s", strerror(errno));
    return NULL;
}

/* One reader of bytes, who finds the records in them by their lengths. */
static void *read_records(void *unused) {
    t_ring_buffer *ring = many.handles[WRITERS];
    uint32_t next[WRITERS] = {0};
    struct record record;
    (void)unused;
    for (;;) {
        size_t wanted = HEAD;
        for (size_t done = 0; done < wanted;) {
            ssize_t length = ring_read(ring, (char *)&record + done, wanted - done);
            if (length == 0 && done == 0)
                return NULL;
            check(length > 0, "%s", length ? strerror(errno) : "the end came amidst a record");
            done += (size_t)length;
            if (done == HEAD)
                wanted = record.length;
            check(wanted >= HEAD && wanted <= sizeof record, "what came is no record: writes were interleaved");
        }
        check_record(&record, next);
    }
}

static void run_many(size_t capacity, int framed, int handles) {
    pthread_t threads[WRITERS + READERS];
    size_t readers = framed ? READERS : 1;
    memset(&many, 0, sizeof many);
    many.framed = framed;
    atomic_store(&many.writers_left, WRITERS);
    for (size_t i = 0; i < WRITERS + READERS; i++)
        many.handles[i] = i == 0     ? a_ring(capacity, 0)
                          : !handles ? many.handles[0]
                                     : opened(attach_ring_buffer(ring_name("ring")));
    for (size_t i = 0; i < WRITERS; i++)
        threads[i] = thread_begins(write_records, (void *)i);
    for (size_t i = 0; i < readers; i++)
        threads[WRITERS + i] = thread_begins(framed ? read_messages : read_records, (void *)i);
    for (size_t i = 0; i < WRITERS + readers; i++)
        thread_ends(threads[i]);
    check(atomic_load(&many.records) == WRITERS * WRITES, "%zu records came of %d", atomic_load(&many.records),
          WRITERS * WRITES);
    check(atomic_load(&shared_of(many.handles[0])->writers.inherited) == 0, "nobody died");
    for (size_t i = WRITERS + READERS; handles && i-- > 1;)
        destroy_ring_buffer(many.handles[i]);
    destroy_ring_buffer(many.handles[0]);
}

static void records_come_whole(void) {
    seed = random_seed();
    run_many(sizeof(struct record), 0, 0); /* the longest fills the ring */
    run_many(1000, 0, 1);
    run_many(65536, 0, 0);
}

static void messages_come_whole(void) {
    seed = random_seed();
    run_many(sizeof(struct record) + RING_MESSAGE_HEADER, 1, 0);
    run_many(1000, 1, 1);
    run_many(65536, 1, 0);
}

/* A write as long as the ring, while others keep it half full with small ones. */
static void *write_much(void *ring) {
    char all[64] = "";
    for (int i = 0; i < 100; i++)
        expect(ring_write(ring, all, sizeof all), sizeof all);
    ring_close(ring);
    return NULL;
}

static void *write_little(void *ring) {
    while (ring_write(ring, "little", 6) == 6)
        continue;
    return NULL;
}

static void a_large_write_is_not_starved(void) {
    t_ring_buffer *ring = a_ring(64, 0);
    char out[7];
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        threads[i] = thread_begins(i ? write_little : write_much, ring);
    while (ring_read(ring, out, sizeof out) > 0)
        continue;
    for (size_t i = 0; i < 3; i++)
        thread_ends(threads[i]);
    destroy_ring_buffer(ring);
}

/* ---------------------------------------------------------------------------------------------- waiting */

static void *read_one(void *ring) {
    char byte;
    return (void *)(intptr_t)ring_read(ring, &byte, 1);
}

static void *write_ten(void *ring) {
    return (void *)(intptr_t)ring_write(ring, "0123456789", 10);
}

static void *write_twenty(void *ring) {
    return (void *)(intptr_t)ring_write(ring, "01234567890123456789", 20);
}

/* Each wake-up is counted: were they lost, the sleepers would find out by themselves, but slowly. */
static void who_sleeps_is_woken(void) {
    for (int flags = 0; flags <= RING_SPSC; flags += RING_SPSC) {
        t_ring_buffer *ring = a_ring(10, flags);
        struct ring_shared *shared = shared_of(ring);
        char out[10];
        for (uint32_t i = 1; i <= 300 / SLOWER; i++) {
            pthread_t thread = thread_begins(read_one, ring);
            until_asleep(&shared->readers);
            expect(ring_write(ring, "a", 1), 1);
            check(thread_ends(thread) == (void *)1, "it did not read");
            check(atomic_load(&shared->readers.event) == i, "the reader was woken %u times for %u bytes",
                  atomic_load(&shared->readers.event), i);

            expect(ring_write(ring, "0123456789", 10), 10);
            thread = thread_begins(write_ten, ring);
            until_asleep(&shared->writers);
            if (flags == 0) {
                expect(ring_read(ring, out, 9), 9); /* not for less than it needs */
                check(atomic_load(&shared->writers.event) == i - 1, "the writer was woken for 9 bytes of 10");
                expect(ring_read(ring, out, 1), 1);
            } else {
                expect(ring_read(ring, out, 10), 10);
            }
            check(thread_ends(thread) == (void *)10, "it did not write");
            check(atomic_load(&shared->writers.event) == i, "the writer was woken %u times, not %u",
                  atomic_load(&shared->writers.event), i);
            expect(ring_read(ring, out, 10), 10);
        }
        destroy_ring_buffer(ring);
    }
}

static void the_end_wakes_all(void) {
    for (int flags = 0; flags <= RING_SPSC; flags += RING_SPSC) {
        size_t each = flags ? 1 : 3;
        pthread_t threads[3];
        t_ring_buffer *ring = a_ring(10, flags);
        for (size_t i = 0; i < each; i++)
            threads[i] = thread_begins(read_one, ring);
        until_asleep(&shared_of(ring)->readers);
        ring_close(ring);
        check(atomic_load(&shared_of(ring)->readers.event) == 1, "the readers were not woken");
        for (size_t i = 0; i < each; i++)
            check(thread_ends(threads[i]) == 0, "a reader did not come to the end");
        destroy_ring_buffer(ring);

        ring = a_ring(10, flags);
        expect(ring_write(ring, "abc", 3), 3);
        for (size_t i = 0; i < each; i++)
            threads[i] = thread_begins(write_ten, ring);
        until_asleep(&shared_of(ring)->writers);
        ring_close(ring);
        check(atomic_load(&shared_of(ring)->writers.event) == 1, "the writers were not woken");
        for (size_t i = 0; i < each; i++)
            check(thread_ends(threads[i]) == (void *)-1, "a writer went on after the end");
        destroy_ring_buffer(ring);

        ring = a_ring(10, flags);
        threads[0] = thread_begins(write_twenty, ring);
        until_asleep(&shared_of(ring)->writers);
        ring_close(ring);
        check(thread_ends(threads[0]) == (void *)10, "a long write does not say how far it came");
        destroy_ring_buffer(ring);
    }
}

static void *write_until_the_end(void *ring) {
    uintptr_t written = 0;
    while (ring_write(ring, "abc", 3) == 3)
        written += 3;
    return (void *)written;
}

/* A write that the end overtakes fails: once a reader was told of it, nothing comes any more. */
static void the_end_is_the_end(void) {
    char out[64];
    for (int i = 0; i < 2000 / SLOWER; i++) {
        t_ring_buffer *ring = a_ring(1 << 16, i % 2 ? RING_SPSC : 0);
        pthread_t thread = thread_begins(write_until_the_end, ring);
        uintptr_t came = 0;
        for (;;) {
            ssize_t length = ring_read(ring, out, sizeof out);
            came += (uintptr_t)length;
            if (length == 0)
                break;
            if (came > (uintptr_t)i % 500)
                ring_close(ring);
        }
        check((void *)came == thread_ends(thread), "not as many bytes came as were written");
        check((*ring->head & ~RING_ENDED) == *ring->tail, "more came after the end");
        destroy_ring_buffer(ring);
    }
}

static void a_turn_is_waited_for_no_longer_than_that(void) {
    t_ring_buffer *ring = a_ring(10, 0);
    char out[10];
    pthread_t thread = thread_begins(read_one, ring);
    until_asleep(&shared_of(ring)->readers);
    expect_error(ring_try_read(ring, out, 1), EAGAIN);
    expect_error(ring_timed_read(ring, out, 1, 0), ETIMEDOUT);
    expect_error(ring_timed_read(ring, out, 1, 20), ETIMEDOUT);
    expect(ring_write(ring, "abc", 3), 3);
    thread_ends(thread);
    expect(ring_read(ring, out, 10), 2);

    expect(ring_write(ring, "abc", 3), 3);
    thread = thread_begins(write_ten, ring);
    until_asleep(&shared_of(ring)->writers);
    expect_error(ring_try_write(ring, "a", 1), EAGAIN); /* there is room, but another waits for more */
    expect_error(ring_timed_write(ring, "a", 1, 20), ETIMEDOUT);
    expect(ring_read(ring, out, 10), 3);
    thread_ends(thread);
    expect(ring_read(ring, out, 10), 10);
    destroy_ring_buffer(ring);
}

static void of_two_threads_on_one_handle_one_gets_ebusy(void) {
    t_ring_buffer *ring = a_ring(10, RING_SPSC);
    char out[10];
    pthread_t thread = thread_begins(read_one, ring);
    until_asleep(&shared_of(ring)->readers);
    expect_error(ring_read(ring, out, 1), EBUSY);
    expect_error(ring_try_read(ring, out, 1), EBUSY);
    expect(ring_write(ring, "a", 1), 1);
    thread_ends(thread);
    expect(ring_write(ring, "b", 1), 1);
    expect(ring_read(ring, out, 1), 1); /* one after the other they may */
    destroy_ring_buffer(ring);
}

/* ---------------------------------------------------------------------------------------------- signals */

static t_ring_buffer *interrupted;
static atomic_int told, handled;

static void on_signal(int number) {
    int before = errno;
    char byte;
    (void)number;
    if (ring_try_read(interrupted, &byte, 1) == -1)
        atomic_store(&told, errno);
    atomic_fetch_add(&handled, 1);
    errno = before;
}

static void a_signal_does_not_end_a_wait(void) {
    char out[10];
    struct sigaction action = {.sa_handler = on_signal};
    interrupted = a_ring(10, 0);
    sigaction(SIGUSR1, &action, NULL);
    pthread_t thread = thread_begins(read_one, interrupted);
    until_asleep(&shared_of(interrupted)->readers);
    for (int i = 1; i <= 3; i++) {
        pthread_kill(thread, SIGUSR1);
        while (atomic_load(&handled) < i)
            usleep(100);
        check(atomic_load(&told) == EDEADLK, "it says %s to what interrupted it", strerror(atomic_load(&told)));
    }
    expect(ring_write(interrupted, "abc", 3), 3);
    check(thread_ends(thread) == (void *)1, "it did not read");
    expect(ring_read(interrupted, out, 10), 2);
    destroy_ring_buffer(interrupted);
}

static const struct test_case cases[] = {
    {"a stream comes as it was written, in pieces of any length", a_stream_comes_as_it_was_written},
    {"records of many writers are not interleaved", records_come_whole},
    {"messages of many writers come whole to many readers", messages_come_whole},
    {"a large write is not starved by small ones", a_large_write_is_not_starved},
    {"who sleeps is woken, and not for too little", who_sleeps_is_woken},
    {"the end wakes all", the_end_wakes_all},
    {"the end is the end", the_end_is_the_end},
    {"a turn is waited for no longer than that", a_turn_is_waited_for_no_longer_than_that},
    {"with RING_SPSC, of two threads on one handle one gets EBUSY", of_two_threads_on_one_handle_one_gets_ebusy},
    {"a signal does not end a wait", a_signal_does_not_end_a_wait},
};

MAIN_OF_RING_CASES(cases)
