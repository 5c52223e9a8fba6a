/*
 * Whether the register is exact: what is live during a whole walk is visited once, with its size, and what is free
 * during a whole walk is not visited.
 *
 * The threads note of each address when it was taken and given back. A stamp is a read-modify-write of one clock, so
 * that the reader, whose walk begins with a stamp of its own, knows what came before; each note stands aside from its
 * call so that it claims too little: a block is noted as live after it was taken, and as changing before it is given
 * back. One case is left: a block is taken, and the walk sees it, before its thread has noted it; so when a visited
 * block is noted as free, the reader waits for the calls that are under way, and looks at the note again.
 */
#include "stress.h"

#include <sched.h>

enum { SHARED = 64, OWN_MAX = 150, NOTES_BITS = 18, SUSPECTS_MAX = 4096, WALKS_MIN = 10 };

#define NOTES     ((size_t)1 << NOTES_BITS)
#define OWN_TOTAL ((size_t)6000) /* blocks of all threads */

enum knowledge { CHANGING, LIVE, FREE, FOREIGN };

struct note {
    _Atomic uintptr_t address; /* 0: none yet; notes are for ever */
    _Atomic uint64_t word;     /* stamp, size, knowledge */
};

static struct note notes[NOTES];
static _Atomic uint64_t clock_now = 1;
static _Atomic uint64_t shared[SHARED];
static atomic_bool begun, ended;
static struct {
    atomic_size_t calls; /* odd: one is under way */
    char alone[56];
} writers[THREADS_MAX];

/* ------------------------------------------------------------------------------------------------------- notes */
static uint64_t note_word(enum knowledge knowledge, size_t size) {
    return atomic_fetch_add(&clock_now, 1) << (PACKED_SIZE_BITS + 2) | size << 2 | knowledge;
}

static enum knowledge knowledge_of(uint64_t word) {
    return (enum knowledge)(word & 3);
}

static size_t size_of(uint64_t word) {
    return word >> 2 & PACKED_SIZE_MAX;
}

static uint64_t stamp_of(uint64_t word) {
    return word >> (PACKED_SIZE_BITS + 2);
}

/* The note of an address; NULL: there is none, and none is to be made. */
static struct note *find_note(uintptr_t address, bool make) {
    size_t at = address * 0x9e3779b97f4a7c15u >> (64 - NOTES_BITS);
    for (size_t tries = 0; tries < NOTES; tries++, at = (at + 1) % NOTES) {
        uintptr_t there = atomic_load(&notes[at].address);
        if (there == 0 && !make)
            return NULL;
        if (there == 0 && atomic_compare_exchange_strong(&notes[at].address, &there, address))
            return &notes[at];
        if (there == address)
            return &notes[at];
    }
    fail("more than %zu addresses: too many for the test's table", NOTES);
}

/* Called when the block has been taken, or has a new size. */
static void note_live(struct held held) {
    struct note *note = find_note((uintptr_t)held.block, true);
    atomic_store(&note->word, note_word(LIVE, held.size));
}

/* Called before it is given back or resized; what it gives is for note_free. */
static uint64_t note_changing(struct held held) {
    uint64_t word = note_word(CHANGING, held.size);
    atomic_store(&find_note((uintptr_t)held.block, true)->word, word);
    return word;
}

/* Called after; by then the block may be another's, who has noted so. */
static void note_free(void *block, uint64_t changing) {
    struct note *note = find_note((uintptr_t)block, true);
    atomic_compare_exchange_strong(&note->word, &changing, note_word(FREE, 0));
}

/* ----------------------------------------------------------------------------------------------------- writers */
static struct held give_back(struct rng *rng, struct held held) {
    if (held.block != NULL) {
        uint64_t changing = note_changing(held);
        block_release(rng, held);
        note_free(held.block, changing);
    }
    return (struct held){NULL, 0};
}

static struct held take(struct worker *worker, size_t size) {
    atomic_size_t *calls = &writers[worker->index].calls;
    atomic_fetch_add(calls, 1);
    struct held held = block_make(&worker->rng, size);
    note_live(held);
    atomic_fetch_add(calls, 1);
    return held;
}

static struct held resize(struct worker *worker, struct held held, size_t size) {
    atomic_size_t *calls = &writers[worker->index].calls;
    uint64_t changing = note_changing(held);
    atomic_fetch_add(calls, 1);
    struct held resized = block_resize(&worker->rng, held, size);
    note_live(resized);
    if (resized.block != held.block)
        note_free(held.block, changing);
    atomic_fetch_add(calls, 1);
    return resized;
}

/* So that some blocks stand for a whole walk, and the reader has its turn where there are fewer CPUs than threads. */
static void rest(struct rng *rng) {
    struct timespec rest = {.tv_nsec = (long)rng_between(rng, 0, 2000000)};
    nanosleep(&rest, NULL);
}

static void write_register(struct worker *worker) {
    struct rng *rng = &worker->rng;
    struct held own[OWN_MAX] = {{NULL, 0}};
    size_t own_count = OWN_TOTAL / stress.threads < OWN_MAX ? OWN_TOTAL / stress.threads : OWN_MAX;
    while (!atomic_load(&begun))
        sched_yield();
    for (; !atomic_load(&ended); worker->operations++) {
        if (rng_between(rng, 0, 99) == 0)
            rest(rng);
        struct held *mine = &own[rng_between(rng, 0, own_count - 1)];
        size_t action = rng_between(rng, 0, 99);
        if (action < 30)
            *mine = held_unpack(atomic_exchange(&shared[rng_between(rng, 0, SHARED - 1)], held_pack(*mine)));
        if (action < 50)
            *mine = give_back(rng, *mine);
        else if (mine->block == NULL)
            *mine = take(worker, rng_size(rng));
        else if (action < 70)
            *mine = resize(worker, *mine, rng_size(rng) + 1);
        else if (action == 99 && rng_between(rng, 0, 9) == 0)
            malloc_trim(0);
    }
    for (size_t i = 0; i < OWN_MAX; i++)
        give_back(rng, own[i]);
}

/* -------------------------------------------------------------------------------------------------- the reader */
static struct {
    uint64_t begin;                  /* stamp of this walk */
    uint64_t visited[NOTES];         /* the stamp of the last walk that came by each */
    size_t sizes[NOTES];             /* and the size that it told */
    uintptr_t unknown[SUSPECTS_MAX]; /* visited, and not noted at all */
    size_t unknown_count;
    struct {
        size_t note;
        uint64_t word;
    } suspects[SUSPECTS_MAX]; /* visited, and noted as free */
    size_t suspect_count;
    size_t walks, live, free;
} reader;

static int note_foreign(void *argument, const cadastre_block *block) {
    (void)argument;
    atomic_store(&find_note((uintptr_t)block->address, true)->word, note_word(FOREIGN, 0));
    return 0;
}

static int visit(void *argument, const cadastre_block *block) {
    const struct note *note = find_note((uintptr_t)block->address, false);
    (void)argument;
    if (note == NULL) {
        must(reader.unknown_count < SUSPECTS_MAX, "%zu blocks are visited that nobody took", reader.unknown_count);
        reader.unknown[reader.unknown_count++] = (uintptr_t)block->address;
        return 0;
    }
    size_t i = (size_t)(note - notes);
    must(reader.visited[i] != reader.begin, "%p is visited twice", block->address);
    reader.visited[i] = reader.begin;
    reader.sizes[i] = block->size;
    return 0;
}

static void compare(size_t i) {
    uint64_t word = atomic_load(&notes[i].word);
    bool visited = reader.visited[i] == reader.begin;
    if (stamp_of(word) >= reader.begin)
        return;
    if (knowledge_of(word) == LIVE) {
        must(visited, "%#zx: %zu bytes, live during a whole walk, are not visited", (size_t)notes[i].address,
             size_of(word));
        must(reader.sizes[i] == size_of(word), "%#zx: %zu bytes are said to be %zu", (size_t)notes[i].address,
             size_of(word), reader.sizes[i]);
        reader.live++;
    } else if (knowledge_of(word) == FREE && visited) {
        must(reader.suspect_count < SUSPECTS_MAX, "%zu blocks are visited that are free", reader.suspect_count);
        reader.suspects[reader.suspect_count].note = i;
        reader.suspects[reader.suspect_count++].word = word;
    } else if (knowledge_of(word) == FREE) {
        reader.free++;
    }
}

/* Until all calls that may have taken what the walk came by have returned, and have noted it. */
static void wait_for_calls(void) {
    for (unsigned i = 0; i < stress.threads; i++) {
        size_t calls = atomic_load(&writers[i].calls);
        while (calls % 2 != 0 && atomic_load(&writers[i].calls) == calls)
            sched_yield();
    }
}

static void walk_and_compare(void) {
    reader.suspect_count = reader.unknown_count = 0;
    reader.begin = atomic_fetch_add(&clock_now, 1);
    must(cadastre_walk(visit, NULL) == 0, "the walk did not come to its end");
    for (size_t i = 0; i < NOTES; i++)
        if (atomic_load(&notes[i].address) != 0)
            compare(i);
    reader.walks++;
    if (reader.suspect_count + reader.unknown_count == 0)
        return;
    wait_for_calls();
    for (size_t i = 0; i < reader.suspect_count; i++) {
        struct note *note = &notes[reader.suspects[i].note];
        must(atomic_load(&note->word) != reader.suspects[i].word, "%#zx: free during a whole walk, and visited",
             (size_t)note->address);
    }
    for (size_t i = 0; i < reader.unknown_count; i++)
        must(find_note(reader.unknown[i], false) != NULL, "%#zx is visited, and nobody took it",
             (size_t)reader.unknown[i]);
}

static void read_register(struct worker *worker) {
    /* What the C library has for its threads, where it uses our malloc. */
    must(cadastre_walk(note_foreign, NULL) == 0, "the walk did not come to its end");
    atomic_store(&begun, true);
    while (goes_on() || reader.walks < WALKS_MIN) { /* however slow the machine is */
        walk_and_compare();
        if (rng_between(&worker->rng, 0, 3) == 0)
            rest(&worker->rng);
    }
    atomic_store(&ended, true);
    must(reader.live > 0 && reader.free > 0, "%zu walks had nothing to compare", reader.walks);
}

void run_register(void) {
    struct rng rng = rng_stream(stress.seed, THREADS_MAX);
    run_threads(write_register, read_register);
    for (size_t i = 0; i < SHARED; i++)
        give_back(&rng, held_unpack(atomic_exchange(&shared[i], 0)));
    say("register: %zu walks found %zu live and %zu free blocks as they were noted", reader.walks, reader.live,
        reader.free);
}
