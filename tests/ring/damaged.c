/*
 * Shared memory that anybody may have written to: whatever stands there, calls come to an end, nothing outside of the
 * ring and of the caller's buffers is read or written, and positions or lengths that cannot be are an error.
 */
#include "ring/ring.h"
#include "threads/random.h"

enum { CAPACITY = 1000, ROUNDS = 40000 / SLOWER, MARK = 0x5a };

static t_ring_buffer *ring;
static unsigned char in[2 * CAPACITY], out[2 * CAPACITY];

/* Beyond the ring: the rest of its last page, and pages that cannot be touched, where they do not hit something. */
static unsigned char *rest;
static size_t rest_size;

static void fence(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *start = ring->mapping->addr, *end = start + (ring->mapping->size + page - 1) / page * page;
    rest = (unsigned char *)ring->data + CAPACITY;
    rest_size = (size_t)(end - (char *)rest);
    memset(rest, MARK, rest_size);
    mmap(start - 16 * page, 16 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    mmap(end, 16 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

static void nothing_else_was_touched(void) {
    for (size_t i = 0; i < rest_size; i++)
        check(rest[i] == MARK, "byte %zu behind the ring was written", i);
    check(ring->capacity == CAPACITY, "the handle changed");
}

static void set(uint64_t head, uint64_t tail) {
    atomic_store(&shared_of(ring)->writers.position, head);
    atomic_store(&shared_of(ring)->readers.position, tail);
}

/* By handles that have not seen any other positions. */
static void impossible_positions_are_errors(void) {
    static const uint64_t far[] = {CAPACITY + 1, CAPACITY + 4096, 1u << 31, UINT64_C(1) << 32, RING_ENDED >> 1};
    for (size_t i = 0; i < 8 * COUNT(far); i++) {
        uint64_t base = 123456789, distance = far[i / 8];
        int flags = i & 2 ? RING_SPSC : 0;
        ring = a_ring(CAPACITY, flags);
        fence();
        set(base + (i & 1 ? 0 : distance), base + (i & 1 ? distance : 0));
        if (i & 4) {
            expect_error(ring_read_message(ring, out, sizeof out), EBADMSG);
            expect_error(ring_write_message(ring, in, 10), EBADMSG);
        } else {
            expect_error(ring_read(ring, out, sizeof out), EBADMSG);
            expect_error(ring_write(ring, in, 10), EBADMSG);
            expect_error(ring_timed_write(ring, in, sizeof in, 10), EBADMSG);
        }
        nothing_else_was_touched();
        destroy_ring_buffer(ring);
    }
}

/* Beyond 32 bits, and where products of positions would overflow. */
static void high_positions_are_positions(void) {
    static const uint64_t bases[] = {UINT32_MAX - 2, UINT64_C(1) << 32, UINT64_C(1) << 52, RING_ENDED - 5000};
    ring = a_ring(CAPACITY, 0);
    fence();
    for (size_t i = 0; i < COUNT(bases); i++) {
        set(bases[i], bases[i]);
        for (int times = 0; times < 4; times++) {
            for (size_t at = 0; at < CAPACITY; at++)
                in[at] = (unsigned char)(at * 3 + i + (size_t)times);
            expect(ring_write(ring, in, CAPACITY - 7), CAPACITY - 7);
            memset(out, 0, sizeof out);
            expect(ring_read(ring, out, sizeof out), CAPACITY - 7);
            check(memcmp(in, out, CAPACITY - 7) == 0, "bytes came changed at %#zx", (size_t)bases[i]);
        }
        nothing_else_was_touched();
    }
    destroy_ring_buffer(ring);
}

static void impossible_lengths_are_errors(void) {
    static const uint32_t lengths[] = {0, 11, CAPACITY, CAPACITY + 1, 1u << 31, UINT32_MAX - 3, UINT32_MAX};
    ring = a_ring(CAPACITY, 0);
    fence();
    expect(ring_write_message(ring, in, 10), 10);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        memcpy(ring->data, &lengths[i], sizeof lengths[i]);
        expect_error(ring_read_message(ring, out, sizeof out), EBADMSG);
    }
    for (uint64_t head = 1; head <= RING_MESSAGE_HEADER; head++) {
        set(head, 0);
        expect_error(ring_read_message(ring, out, sizeof out), EBADMSG);
    }
    nothing_else_was_touched();
    atomic_store(&shared_of(ring)->framing, 7);
    expect_error(ring_read_message(ring, out, sizeof out), EBADMSG);
    expect_error(ring_write(ring, in, 1), EBADMSG);
    destroy_ring_buffer(ring);
}

/* Nobody has that number: it is as if he had died. */
static void a_turn_of_nobody_is_taken(void) {
    ring = a_ring(CAPACITY, 0);
    atomic_store(&shared_of(ring)->writers.turn, 0x3fffffff);
    atomic_store(&shared_of(ring)->readers.turn, 0xbffffffe);
    expect(ring_write(ring, in, 10), 10);
    expect(ring_read(ring, out, 10), 10);
    destroy_ring_buffer(ring);

    ring = a_ring(CAPACITY, RING_SPSC);
    atomic_store(&shared_of(ring)->writers.role, UINT64_MAX);
    atomic_store(&shared_of(ring)->readers.role, 0x3fffff);
    expect(ring_write(ring, in, 10), 10);
    expect(ring_read(ring, out, 10), 10);
    destroy_ring_buffer(ring);
}

/* --------------------------------------------------------------------------------------------- at random */

static uint64_t any_word(struct rng *rng) {
    switch (rng_between(rng, 0, 4)) {
    case 0:
        return rng_next(rng);
    case 1:
        return rng_between(rng, 0, 2 * CAPACITY);
    case 2:
        return UINT64_MAX - rng_between(rng, 0, 2 * CAPACITY);
    case 3:
        return RING_ENDED + rng_between(rng, 0, 2 * CAPACITY) - CAPACITY;
    default:
        return UINT64_C(1) << rng_between(rng, 0, 63);
    }
}

/* One word of what is shared; the first bytes of the data are lengths. */
static void damage(struct ring_shared *shared, struct rng *rng) {
    struct ring_side *side = rng_between(rng, 0, 1) ? &shared->writers : &shared->readers;
    uint64_t word = any_word(rng);
    switch (rng_between(rng, 0, 9)) {
    case 0:
        atomic_store(&side->role, word);
        break;
    case 1:
        atomic_store(&side->turn, (uint32_t)word & 0xc0000000u); /* a number may be somebody's, who then has the turn */
        break;
    case 2:
        atomic_store(&side->wanted, word);
        break;
    case 3:
        atomic_store(&side->event, (uint32_t)word);
        break;
    case 4:
        atomic_store(&shared->framing, (uint32_t)word % 4);
        break;
    default:
        atomic_store(&side->position, word);
    }
}

/* Whatever comes of it, but not more than was asked for. */
static void operate(struct rng *rng) {
    size_t length = rng_between(rng, 0, rng_between(rng, 0, 1) ? 64 : sizeof out);
    ssize_t result;
    switch (rng_between(rng, 0, 7)) {
    case 0:
        result = ring_try_write(ring, in, length);
        break;
    case 1:
        result = ring_try_read(ring, out, length);
        break;
    case 2:
        result = ring_try_write_message(ring, in, length);
        break;
    case 3:
        result = ring_try_read_message(ring, out, length);
        break;
    case 4:
        result = ring_timed_write(ring, in, length, 0);
        break;
    case 5:
        result = ring_timed_read(ring, out, length, 0);
        break;
    case 6:
        result = ring_timed_write_message(ring, in, length, 0);
        break;
    default:
        result = ring_timed_read_message(ring, out, length, 0);
    }
    check(result <= (ssize_t)length, "%zd bytes of %zu", result, length);
}

/* Data is not damaged beside: what it means is the program's own affair, and ThreadSanitizer would not like it. */
static void any_word_may_be_anything(void) {
    struct rng rng = rng_stream(random_seed(), 0);
    for (int flags = 0; flags <= RING_SPSC; flags += RING_SPSC) {
        ring = a_ring(CAPACITY, flags);
        fence();
        for (int i = 0; i < ROUNDS; i++) {
            if (rng_between(&rng, 0, 2) == 0)
                damage(shared_of(ring), &rng);
            if (rng_between(&rng, 0, 9) == 0)
                *(uint32_t *)(void *)(ring->data + 4 * rng_between(&rng, 0, CAPACITY / 4 - 1)) =
                    (uint32_t)rng_next(&rng);
            operate(&rng);
        }
        nothing_else_was_touched();
        destroy_ring_buffer(ring);
    }
}

/* And may change between any two looks. */
static void and_change_meanwhile(void) {
    uint64_t seed = random_seed();
    for (int flags = 0; flags <= RING_SPSC; flags += RING_SPSC) {
        struct rng rng = rng_stream(seed, 0);
        ring = a_ring(CAPACITY, flags);
        fence();
        pid_t pid = child_begins();
        if (pid == 0) {
            struct rng own = rng_stream(seed, 1);
            for (;;) {
                damage(shared_of(ring), &own);
                if (rng_between(&own, 0, 9) == 0)
                    set(CAPACITY + rng_between(&own, 0, CAPACITY), CAPACITY); /* so that some calls go on */
                if (rng_between(&own, 0, 9) == 0)
                    memset(ring->data, (int)rng_next(&own), CAPACITY);
            }
        }
        for (int i = 0; i < ROUNDS; i++)
            operate(&rng);
        child_killed(pid);
        nothing_else_was_touched();
        destroy_ring_buffer(ring);
    }
}

static void a_damaged_header_is_attached_or_not(void) {
    struct rng rng = rng_stream(random_seed(), 0);
    t_ring_buffer *whole = a_ring(CAPACITY, 0);
    struct ring_shared *shared = shared_of(whole);
    struct ring_shared before;
    memcpy(&before, shared, sizeof before);
    size_t attached = 0;
    for (int i = 0; i < ROUNDS / 20; i++) {
        unsigned char *header = (unsigned char *)shared;
        header[rng_between(&rng, 1, sizeof *shared - 1)] ^= (unsigned char)rng_between(&rng, 1, 255);
        ring = attach_ring_buffer(ring_name("ring"));
        check(ring || errno == EINVAL || errno == EBADMSG || errno == EXDEV, "%s", strerror(errno));
        attached += ring != NULL;
        if (ring) {
            check(ring->capacity == CAPACITY, "it believes in a capacity of %zu", ring->capacity);
            if ((atomic_load(&shared->writers.turn) | atomic_load(&shared->readers.turn)) == 0)
                operate(&rng);
            destroy_ring_buffer(ring);
        }
        memcpy(shared, &before, sizeof before);
    }
    check(attached > 0, "nothing was attached");
    destroy_ring_buffer(whole);
}

static const struct test_case cases[] = {
    {"impossible positions are errors", impossible_positions_are_errors},
    {"high positions are positions", high_positions_are_positions},
    {"impossible lengths are errors", impossible_lengths_are_errors},
    {"a turn or role that is nobody's can be taken", a_turn_of_nobody_is_taken},
    {"any word may be anything", any_word_may_be_anything},
    {"and change between any two looks", and_change_meanwhile},
    {"a damaged header is attached or not", a_damaged_header_is_attached_or_not},
};

MAIN_OF_RING_CASES(cases)
