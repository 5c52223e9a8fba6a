/*
 * The history: the newest events, oldest first; and with 8 writers and a reader, in a ring so small that writers meet
 * in one slot, what is read is what one of them wrote, in order.
 */
#include "history.h"
#include "tap.h"
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

enum { WRITERS = 8, EVENTS = 100000, ROOM = 1000 };

/* The newest `count` events or as many as there are, oldest first; how many. */
static size_t copy_newest(struct history_event *events, size_t count) {
    uint64_t last = history_newest();
    uint64_t wanted = min_size(count, history_capacity());
    size_t copied = 0;
    for (uint64_t number = last > wanted ? last - wanted + 1 : 1; number <= last; number++)
        copied += history_read(number, &events[copied]);
    return copied;
}

/* All that there is to an event follows from its writer and its place among the writer's. */
static void add(uint32_t writer, size_t i) {
    enum history_operation operation = (i * 7 + writer) % 2 ? HISTORY_GIVE : HISTORY_TAKE;
    history_add(operation, (i << 8 | writer) * 16, i * 3 + writer, (uint16_t)(i + writer), writer);
}

static bool is_whole(const struct history_event *event) {
    size_t i = event->address / 16 >> 8;
    uint32_t writer = event->address / 16 & 0xff;
    return event->thread == writer && event->size == i * 3 + writer && event->arena == (uint16_t)(i + writer) &&
           event->operation == ((i * 7 + writer) % 2 ? HISTORY_GIVE : HISTORY_TAKE);
}

/* Numbers rise, and each event is whole. */
static size_t faults_of(const struct history_event *events, size_t count) {
    size_t faults = 0;
    for (size_t i = 0; i < count; i++)
        faults += !is_whole(&events[i]) || (i > 0 && events[i].number <= events[i - 1].number);
    return faults;
}

static void alone(size_t capacity) {
    struct history_event events[ROOM];
    ok(copy_newest(events, ROOM) == 0, "nothing at first");
    add(1, 1);
    ok(copy_newest(events, ROOM) == 1 && events[0].number == 1 && is_whole(&events[0]), "then one event");
    for (size_t i = 2; i <= 10 * capacity; i++)
        add(1, i);
    size_t count = copy_newest(events, ROOM);
    ok(count == capacity && events[0].number == 9 * capacity + 1 && events[count - 1].number == 10 * capacity,
       "then the newest %zu, oldest first", count);
    ok(faults_of(events, count) == 0, "each as it was added");
    size_t some = capacity / 2;
    ok(copy_newest(events, some) == some && (some == 0 || events[some - 1].number == 10 * capacity), "or fewer");
    ok(copy_newest(events, 0) == 0, "or none");
}

static atomic_int writing;
static atomic_size_t writers_faults;

/* Each looks as well, at the moment at which slots are most likely to be in others' hands. */
static void *write_events(void *argument) {
    struct history_event events[4];
    for (size_t i = 0; i < EVENTS; i++) {
        add((uint32_t)(uintptr_t)argument, i);
        size_t count = copy_newest(events, sizeof events / sizeof *events);
        writers_faults += faults_of(events, count) > 0;
    }
    writing--;
    return NULL;
}

static void together(size_t capacity) {
    pthread_t threads[WRITERS];
    struct history_event events[ROOM];
    size_t copied = 0;
    size_t faults = 0;
    writing = WRITERS;
    for (size_t i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, write_events, (void *)i);
    while (writing > 0) {
        size_t count = copy_newest(events, ROOM);
        copied += count;
        faults += count > capacity || faults_of(events, count) > 0;
        sched_yield();
    }
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    ok(writers_faults == 0, "%d writers find whole events as they go (%zu times not)", WRITERS, writers_faults);
    ok(faults == 0, "%d writers: %zu copied events are whole and in order (%zu copies are not)", WRITERS, copied,
       faults);
    size_t count = copy_newest(events, ROOM);
    ok(faults_of(events, count) == 0 && count <= capacity, "and so are the %zu that stay", count);
    for (size_t i = 0; i < capacity; i++)
        add(1, i);
    ok(copy_newest(events, ROOM) == capacity && faults_of(events, capacity) == 0, "no slot is lost");
}

/* A ring is made once in a process: each size has its own. */
static void in_a_process(size_t capacity) {
    diag("a ring of %zu", capacity);
    add(1, 1);
    ok(history_capacity() == 0, "off, it has no room");
    ok(history_boot(capacity) && history_capacity() == capacity, "it can be switched on");
    alone(capacity);
    together(capacity);
}

int main(void) {
    static const size_t capacities[] = {1, 2, 7, 64, 1000};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            in_a_process(capacities[i]);
            _exit(tap_failed ? 1 : tap_run);
        }
        waitpid(pid, &status, 0);
        int points = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
        tap_run = points;
        tap_failed += points <= 1; /* exits with the points so far */
    }
    return tap_done();
}
