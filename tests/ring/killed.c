/*
 * Processes that are killed: asleep with their turn or role, or at any instant of their work, thousands of times. The
 * ring goes on, what a write returned for is there once and unchanged, and of a write that was cut short all or
 * nothing.
 */
#include "ring/ring.h"
#include "threads/random.h"

/* -------------------------------------------------------------------------------- at a certain instant */

static t_ring_buffer *ring;
static char out[16];

static pid_t reader_asleep(void) {
    pid_t pid = child_begins();
    if (pid == 0)
        _exit(ring_read(ring, out, 1) == 1 ? 0 : 1);
    until_asleep(&shared_of(ring)->readers);
    return pid;
}

static pid_t writer_asleep(void) {
    pid_t pid = child_begins();
    if (pid == 0)
        _exit(ring_write(ring, "0123456789", 10) == 10 ? 0 : 1);
    until_asleep(&shared_of(ring)->writers);
    return pid;
}

static unsigned readers_inherited(void) {
    return atomic_load(&shared_of(ring)->readers.inherited);
}

static unsigned writers_inherited(void) {
    return atomic_load(&shared_of(ring)->writers.inherited);
}

static void the_next_inherits_a_turn(void) {
    ring = a_ring(10, 0);
    child_killed(reader_asleep());
    expect_error(ring_try_read(ring, out, 1), EAGAIN);
    check(readers_inherited() == 1, "inherited %u times", readers_inherited());
    expect(ring_write(ring, "abc", 3), 3);
    child_killed(writer_asleep());
    expect(ring_try_write(ring, "def", 3), 3);
    check(writers_inherited() == 1, "inherited %u times", writers_inherited());
    expect(ring_read(ring, out, 10), 6);
    check(memcmp(out, "abcdef", 6) == 0, "it gave %.6s", out);
    check(readers_inherited() == 1 && writers_inherited() == 1, "inherited more than once");
    destroy_ring_buffer(ring);
}

static void who_waits_for_a_turn_inherits_it(void) {
    ring = a_ring(10, 0);
    pid_t first = reader_asleep(), others[3];
    for (size_t i = 0; i < COUNT(others); i++) {
        others[i] = child_begins();
        if (others[i] == 0)
            _exit(ring_read(ring, out, 1) == 1 ? 0 : 1);
    }
    while (!(atomic_load(&shared_of(ring)->readers.turn) & 0x80000000u))
        usleep(100);
    child_killed(first);
    expect(ring_write(ring, "abc", 3), 3);
    for (size_t i = 0; i < COUNT(others); i++)
        expect_child(others[i]);
    check(readers_inherited() == 1, "inherited %u times", readers_inherited());
    destroy_ring_buffer(ring);
}

static void a_role_is_taken_over_from_the_dead(void) {
    ring = a_ring(10, RING_SPSC);
    pid_t pid = reader_asleep();
    expect_error(ring_try_read(ring, out, 1), EBUSY);
    kill(pid, SIGKILL);
    siginfo_t ended;
    waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT);
    expect_error(ring_try_read(ring, out, 1), EAGAIN); /* nobody has waited for it yet: a zombie */
    check(readers_inherited() == 1, "inherited %u times", readers_inherited());
    waitpid(pid, NULL, 0);

    pid = child_begins();
    if (pid == 0)
        _exit(ring_write(ring, "0123456789", 10) == 10 && ring_write(ring, "more", 4) == 4 ? 0 : 1);
    until_asleep(&shared_of(ring)->writers);
    child_killed(pid);
    expect(ring_read(ring, out, 16), 10);
    check(memcmp(out, "0123456789", 10) == 0, "it gave %.10s", out);
    expect(ring_write(ring, "abc", 3), 3);
    check(writers_inherited() == 1, "inherited %u times", writers_inherited());

    /* Its number may be another's by now: that one started later, or is but a thread. */
    uint64_t role = atomic_load(&shared_of(ring)->writers.role);
    t_ring_buffer *other = opened(attach_ring_buffer(ring_name("ring")));
    expect_error(ring_write(other, "def", 3), EBUSY);
    atomic_store(&shared_of(ring)->writers.role, (role & 0xffff000000000000u) | 1 | UINT64_C(123) << 22);
    expect(ring_write(other, "def", 3), 3);
    destroy_ring_buffer(other);
    destroy_ring_buffer(ring);
}

/* ------------------------------------------------------------------------------------ at random instants */

enum { WRITERS = 2, READERS = 2, WORKERS = WRITERS + READERS, KILLS = 2000 / SLOWER, RECORDS = 1 << 22 };

/* Of a length between HEAD and all; who wrote it as his how-manieth tells what the bytes are. */
struct record {
    uint32_t length, writer, number;
    unsigned char bytes[4000];
};

enum { HEAD = offsetof(struct record, bytes) };

/* What parent and children note, outside of the ring. */
static struct board {
    struct {
        atomic_uint begun, returned; /* the number of the record that is being written, and of the last one that was */
        _Atomic unsigned char seen[RECORDS];
    } writers[WRITERS];
    atomic_uint wrong, stop;
} * board;

/* Records over which their writers were killed: they may have come or not. */
static unsigned char in_doubt[WRITERS][RECORDS];

static int framed;
static uint64_t seed;

static void work_wrong(const char *what) {
    diag("%s: %s", what, strerror(errno));
    atomic_fetch_add(&board->wrong, 1);
    _exit(1);
}

static void write_records(uint32_t writer, struct rng *rng) {
    static struct record record;
    uint32_t number = atomic_load(&board->writers[writer].begun);
    while (!atomic_load(&board->stop) && ++number < RECORDS) {
        record = (struct record){.writer = writer, .number = number};
        record.length = (uint32_t)rng_between(rng, HEAD, rng_between(rng, 0, 3) ? HEAD + 60 : sizeof record);
        pattern_write(record.bytes, record.length - HEAD, number * WRITERS + writer);
        atomic_store(&board->writers[writer].begun, number);
        ssize_t written = framed ? ring_write_message(ring, &record, record.length) //
                                 : ring_write(ring, &record, record.length);
        if (written != (ssize_t)record.length)
            work_wrong("a write failed");
        atomic_store(&board->writers[writer].returned, number);
    }
}

static void check_record(const struct record *record, uint32_t *last) {
    if (record->writer >= WRITERS || record->number >= RECORDS || record->length < HEAD ||
        record->length > sizeof *record)
        work_wrong("what came is no record");
    if (!pattern_holds(record->bytes, record->length - HEAD, record->number * WRITERS + record->writer))
        work_wrong("a record came changed");
    if (record->number <= last[record->writer])
        work_wrong("a record came after a later one");
    last[record->writer] = record->number;
    if (atomic_fetch_add(&board->writers[record->writer].seen[record->number], 1) != 0)
        work_wrong("a record came twice");
}

static void read_records(void) {
    static struct record record;
    uint32_t last[WRITERS] = {0};
    for (;;) {
        size_t done = 0, wanted = framed ? sizeof record : HEAD;
        while (done < wanted) {
            ssize_t length = framed ? ring_read_message(ring, &record, sizeof record)
                                    : ring_read(ring, (char *)&record + done, wanted - done);
            if (length == 0 && done == 0)
                return;
            if (length <= 0)
                work_wrong("a read failed");
            done += (size_t)length;
            if (framed || done == HEAD)
                wanted = record.length;
            if (done > wanted)
                work_wrong("what came is no record");
        }
        check_record(&record, last);
    }
}

/* Half of them attach, and half go on with their parent's handle. */
static pid_t worker_begins(size_t worker, uint64_t generation) {
    pid_t pid = child_begins();
    if (pid == 0) {
        struct rng rng = rng_stream(seed, 1 + generation * WORKERS + worker);
        if (generation % 2)
            ring = opened(attach_ring_buffer(ring_name("ring")));
        if (worker < WRITERS)
            write_records((uint32_t)worker, &rng);
        else
            read_records();
        destroy_ring_buffer(ring);
        _exit(0);
    }
    return pid;
}

/* Of `mortal` workers one is killed at random, KILLS times, and replaced at once. */
static void kill_at_random(size_t capacity, int flags, size_t writers, size_t readers, size_t mortal) {
    struct rng rng;
    pid_t pids[WORKERS] = {0};
    uint64_t generation = 0;
    size_t lost = 0, came = 0, readers_killed = 0;
    seed = random_seed();
    rng = rng_stream(seed, 0);
    t_mapping *shared = map_anonymous(sizeof *board, 1);
    board = shared->addr;
    ring = a_ring(capacity, flags);
    size_t places[WORKERS], count = 0;
    for (size_t i = 0; i < writers; i++)
        places[count++] = i;
    for (size_t i = 0; i < readers; i++)
        places[count++] = WRITERS + i;
    for (size_t i = 0; i < count; i++)
        pids[i] = worker_begins(places[i], ++generation);
    for (int kills = 0; kills < KILLS && atomic_load(&board->wrong) == 0; kills++) {
        size_t i = rng_between(&rng, 0, mortal - 1);
        usleep((useconds_t)rng_between(&rng, 0, 1000));
        if (waitpid(pids[i], NULL, WNOHANG) == 0)
            child_killed(pids[i]);
        if (places[i] < WRITERS)
            in_doubt[places[i]][atomic_load(&board->writers[places[i]].begun)] = 1;
        readers_killed += places[i] >= WRITERS;
        pids[i] = worker_begins(places[i], ++generation);
    }
    atomic_store(&board->stop, 1);
    for (size_t i = 0; i < count; i++) {
        if (i == writers)
            ring_close(ring);
        expect_child(pids[i]);
    }
    for (size_t w = 0; w < writers; w++) {
        for (uint32_t n = 1; n <= atomic_load(&board->writers[w].returned); n++) {
            came += atomic_load(&board->writers[w].seen[n]);
            lost += atomic_load(&board->writers[w].seen[n]) == 0 && !in_doubt[w][n];
        }
    }
    diag("%d killed, of them %zu readers; %zu records came, %zu were lost; turns or roles inherited: %u by writers, %u "
         "by "
         "readers",
         KILLS, readers_killed, came, lost, writers_inherited(), readers_inherited());
    check(atomic_load(&board->wrong) == 0, "what came was wrong");
    check(came >= (size_t)KILLS / 4, "hardly anything came");
    /* A reader may take one with it, that it had got, but not noted yet. */
    check(lost <= readers_killed, "%zu records are lost", lost);
    check(writers_inherited() > 0 && (readers_killed == 0 || readers_inherited() > 0), "nobody inherited");
    destroy_ring_buffer(ring);
    unmap(shared);
}

static void with_turns(void) {
    framed = 1;
    kill_at_random(10000, 0, WRITERS, READERS, WORKERS);
}

static void of_bytes(void) {
    framed = 0;
    kill_at_random(sizeof(struct record), 0, WRITERS, 1, WRITERS);
}

static void without_locks(void) {
    framed = 1;
    kill_at_random(10000, RING_SPSC, 1, 1, 2);
}

static const struct test_case cases[] = {
    {"the next one inherits a turn", the_next_inherits_a_turn},
    {"who waits for a turn inherits it", who_waits_for_a_turn_inherits_it},
    {"a role is taken over from the dead alone", a_role_is_taken_over_from_the_dead},
    {"killed at random: two writers and two readers of messages", with_turns},
    {"killed at random: two writers of bytes, whose reader finds whole records", of_bytes},
    {"killed at random: a writer and a reader with RING_SPSC", without_locks},
};

MAIN_OF_RING_CASES(cases)
