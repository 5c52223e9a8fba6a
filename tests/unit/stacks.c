/* The depot of call stacks: each one once, whoever records it; its limits; what it prints. */
#include "stacks.h"
#include "faults/kernel.h"
#include "message.h"
#include "os.h"
#include "tap.h"
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#define THREADS 16
#define STACKS  5000

/* ------------------------------------------------------------------------------------------- one by one */
/* Stack n: some differ in the last address only, or are the beginning of another. */
static unsigned make_stack(size_t n, uintptr_t *pcs) {
    unsigned count = 1 + (unsigned)(n % 40);
    for (unsigned i = 0; i < count; i++)
        pcs[i] = 0x400000 + i;
    pcs[count - 1] += n / 40 * 16;
    return count;
}

static bool holds(uint32_t id, size_t n) {
    uintptr_t pcs[STACKS_DEPTH_MAX];
    const uintptr_t *kept;
    unsigned count = make_stack(n, pcs);
    return stacks_get(id, &kept) == count && memcmp(kept, pcs, count * sizeof *pcs) == 0;
}

static uint32_t intern(size_t n) {
    uintptr_t pcs[STACKS_DEPTH_MAX];
    unsigned count = make_stack(n, pcs);
    return stacks_intern(pcs, count);
}

static void test_interning(void) {
    uintptr_t many[STACKS_DEPTH_MAX + 10];
    const uintptr_t *kept;
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        many[i] = i + 1;
    for (long calls = 0; calls < 2; calls++) {
        kernel_refuse(KERNEL_MMAP, 1 + (size_t)calls, 1 + (size_t)calls);
        ok(stacks_intern(many, 3) == 0 && stacks_total().refused == (size_t)calls + 1 && stacks_total().stacks == 0,
           "no memory at call %ld: number 0, counted as refused", calls);
    }
    kernel_give_again();
    uint32_t id = stacks_intern(many, 3);
    ok(id != 0 && stacks_intern(many, 3) == id && stacks_total().stacks == 1, "the same stack has the same number");
    ok(stacks_get(id, &kept) == 3 && memcmp(kept, many, 3 * sizeof *many) == 0, "which gives it back");
    ok(stacks_intern(many, 2) != id && stacks_intern(many + 1, 3) != id, "others have others");
    ok(stacks_intern(many, 0) == 0 && stacks_get(0, &kept) == 0 && stacks_total().refused == 2,
       "no stack is number 0, and not counted");
    id = stacks_intern(many, STACKS_DEPTH_MAX + 10);
    ok(stacks_get(id, &kept) == STACKS_DEPTH_MAX && kept[STACKS_DEPTH_MAX - 1] == STACKS_DEPTH_MAX,
       "a deep one is cut at %d", STACKS_DEPTH_MAX);
}

/* ------------------------------------------------------------------------------------------- where we are */
__attribute__((noipa)) static uint32_t record(unsigned depth) {
    return stacks_record(depth, __builtin_frame_address(0));
}

__attribute__((noipa)) static uint32_t record_below(unsigned depth, const uintptr_t **caller) {
    static uintptr_t pc;
    pc = (uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0));
    *caller = &pc;
    return stacks_record(depth, __builtin_frame_address(0));
}

static void test_recording(void) {
    const uintptr_t *pcs, *caller;
    uint32_t ids[4];
    for (volatile int i = 0; i < 3; i++) /* volatile: three calls in one place, not unrolled into three */
        ids[i] = record(64);
    ids[3] = record(64);
    ok(ids[0] != 0 && ids[0] == ids[1] && ids[1] == ids[2], "one place, one number");
    ok(ids[3] != 0 && ids[3] != ids[0], "another line is another place");
    unsigned count = stacks_get(record_below(64, &caller), &pcs);
    ok(count >= 3 && pcs[0] == *caller, "the first address is the caller's, of %u", count);
    ok(stacks_get(record(2), &pcs) == 2 && stacks_get(record(1), &pcs) == 1 && record(0) == 0, "as deep as asked for");
}

/* ------------------------------------------------------------------------------------------ many at once */
static uint32_t ids[THREADS][STACKS];
static pthread_barrier_t start;
static _Atomic bool stop;

static void *intern_all(void *arg) {
    size_t thread = (size_t)arg;
    pthread_barrier_wait(&start);
    for (size_t i = 0; i < STACKS; i++) { /* half of the threads in the same order, for races */
        size_t n = thread % 2 == 0 ? i : (i * 7 + thread * 311) % STACKS;
        ids[thread][n] = intern(n);
    }
    return NULL;
}

static void test_threads(void) {
    pthread_t threads[THREADS];
    size_t before = stacks_total().stacks, wrong = 0, apart = 0;
    pthread_barrier_init(&start, NULL, THREADS);
    for (size_t t = 0; t < THREADS; t++)
        pthread_create(&threads[t], NULL, intern_all, (void *)t);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (size_t t = 0; t < THREADS; t++)
        for (size_t n = 0; n < STACKS; n++) {
            wrong += !holds(ids[t][n], n);
            apart += ids[t][n] != ids[0][n];
        }
    ok(wrong == 0, "%d threads record %d stacks each: all are kept as they were", THREADS, STACKS);
    ok(apart == 0, "each has one number for all threads");
    ok(stacks_total().stacks - before == STACKS, "and is kept once");
}

/* Two in step, so that both often find nothing before either has put its own there. */
#define ROUNDS 20000
static _Atomic size_t arrived;
static uint32_t raced[2][ROUNDS];

static void *race(void *arg) {
    uint32_t *mine = arg;
    for (size_t round = 0; round < ROUNDS; round++) {
        uintptr_t pcs[30] = {0x700000 + round};
        add_relaxed(&arrived, 1);
        for (size_t spins = 1; load_relaxed(&arrived) < 2 * (round + 1); spins++)
            if (spins % 1000 == 0)
                sched_yield();
        mine[round] = stacks_intern(pcs, 30);
    }
    return NULL;
}

static void test_races(void) {
    pthread_t other;
    size_t apart = 0, before = stacks_total().stacks;
    pthread_create(&other, NULL, race, raced[1]);
    race(raced[0]);
    pthread_join(other, NULL);
    for (size_t i = 0; i < ROUNDS; i++)
        apart += raced[0][i] != raced[1][i];
    ok(apart == 0 && stacks_total().stacks - before == ROUNDS, "two that record the same at once: one number");
}

static void *intern_until_stopped(void *arg) {
    for (size_t n = (size_t)arg * 100000; !load_relaxed(&stop); n++) {
        intern(STACKS + n % 20000);
        usleep(n % 64 == 0 ? 100 : 0);
    }
    return NULL;
}

/* A child finds every stack, and records. */
static int live_as_child(void) {
    alarm(60);
    for (size_t n = 0; n < STACKS; n += 7)
        if (!holds(ids[0][n], n) || intern(n) != ids[0][n])
            return 1;
    for (size_t n = 0; n < 1000; n++)
        if (!holds(intern(1000000 + n), 1000000 + n))
            return 2;
    return 0;
}

static bool succeeds(int (*body)(void)) {
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(body());
    waitpid(child, &status, 0);
    if (status != 0)
        diag("child: status %#x", (unsigned)status);
    return status == 0;
}

static void test_fork(void) {
    pthread_t threads[4];
    bool good = true;
    for (size_t t = 0; t < 4; t++)
        pthread_create(&threads[t], NULL, intern_until_stopped, (void *)t);
    for (int i = 0; i < 20; i++)
        good &= succeeds(live_as_child);
    store_relaxed(&stop, true);
    for (size_t t = 0; t < 4; t++)
        pthread_join(threads[t], NULL);
    ok(good, "children of fork, while threads record, find the depot whole");
}

/* ---------------------------------------------------------------------------------------------- the limits */
static size_t fill(unsigned count, size_t most) {
    uintptr_t pcs[STACKS_DEPTH_MAX] = {0};
    size_t n = 0;
    do
        pcs[0] = ++n;
    while (stacks_intern(pcs, count) != 0 && n <= most);
    return n;
}

static int fill_by_count(void) {
    struct stacks_total before = stacks_total();
    size_t filled = fill(2, 2 * STACKS_MAX);
    struct stacks_total after = stacks_total();
    diag("%zu stacks in %zu MiB", after.stacks, after.bytes >> 20);
    if (filled != STACKS_MAX - before.stacks + 1 || after.stacks != STACKS_MAX || after.beyond != before.beyond + 1 ||
        after.refused != before.refused)
        return 1;
    return intern(1) == ids[0][1] ? 0 : 2; /* what is there still is */
}

static int fill_by_size(void) {
    size_t filled = fill(STACKS_DEPTH_MAX, STACKS_MAX);
    struct stacks_total after = stacks_total();
    diag("%zu stacks in %zu MiB", after.stacks, after.bytes >> 20);
    if (after.stacks >= STACKS_MAX || after.bytes != STACKS_BYTES_MAX || after.beyond == 0 ||
        filled * 520 < STACKS_BYTES_MAX / 10 * 9)
        return 1;
    return intern(1) == ids[0][1] ? 0 : 2;
}

static size_t memory_available(void) {
    char text[512];
    os_read_file("/proc/meminfo", text, sizeof text);
    const char *line = strstr(text, "MemAvailable:");
    return line == NULL ? 0 : strtoul(line + strlen("MemAvailable:"), NULL, 10) << 10;
}

static void test_limits(void) {
    ok(succeeds(fill_by_count), "no more than %zu stacks", STACKS_MAX);
    if (memory_available() / 4 >= STACKS_BYTES_MAX)
        ok(succeeds(fill_by_size), "nor more than %zu MiB", STACKS_BYTES_MAX >> 20);
    else
        ok(true, "nor more than %zu MiB # SKIP that is more than a quarter of what is free", STACKS_BYTES_MAX >> 20);
}

/* ------------------------------------------------------------------------------------------------ printing */
struct place {
    uintptr_t address;
    uintptr_t base; /* by which its file was moved */
    char file[512];
};

static int find_place(struct dl_phdr_info *info, size_t size, void *arg) {
    struct place *place = arg;
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && place->address - info->dlpi_addr - part->p_vaddr < part->p_memsz) {
            place->base = info->dlpi_addr;
            snprintf(place->file, sizeof place->file, "%s", info->dlpi_name);
            return 1;
        }
    }
    return 0;
}

static bool prints(uintptr_t pc, const char *expected) {
    char buffer[1024];
    struct text text = {buffer, 0, sizeof buffer - 1, -1};
    stacks_print(&text, stacks_intern(&pc, 1), "  at ");
    buffer[text.length] = '\0';
    if (strcmp(buffer, expected) != 0)
        diag("printed %.*s, expected %.*s", (int)strcspn(buffer, "\n"), buffer, (int)strcspn(expected, "\n"), expected);
    return strcmp(buffer, expected) == 0;
}

static void test_printing(const char *program) {
    char expected[1024];
    uintptr_t pcs[2] = {0x1235, 0x2235};
    struct place place = {.address = (uintptr_t)dlsym(RTLD_NEXT, "getppid")};
    dl_iterate_phdr(find_place, &place);
    snprintf(expected, sizeof expected, "  at getppid+0x4 (%s+%#zx)\n", place.file, place.address + 4 - place.base);
    ok(prints(place.address + 5, expected), "a function that its file tells of, and where the call is in it");

    place.address = (uintptr_t)prints;
    dl_iterate_phdr(find_place, &place);
    snprintf(expected, sizeof expected, "  at %s+%#zx\n", program, place.address + 4 - place.base);
    ok(prints(place.address + 5, expected), "a static function: the file, and where addr2line finds it");
    ok(prints(0x1235, "  at 0x1234\n"), "no file: the address");

    char buffer[64];
    struct text text = {buffer, 0, sizeof buffer - 1, -1};
    stacks_print(&text, stacks_intern(pcs, 2), "");
    stacks_print(&text, 0, "");
    buffer[text.length] = '\0';
    ok(strcmp(buffer, "0x1234\n0x2234\n") == 0, "a line for each call; none for the number 0");
}

int main(int argc, char **argv) {
    (void)argc;
    os_boot();
    test_interning();
    test_recording();
    test_printing(argv[0]);
    test_threads();
    test_races();
    test_fork();
    test_limits();
    return tap_done();
}
