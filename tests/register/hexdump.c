/*
 * The first bytes of live blocks in show_alloc_mem_ex: as they are, no more than were requested, none of a block that
 * was freed meanwhile, and no fault where a page is out of reach, or goes while it is looked at.
 */
#include "register/shown.h"
#include "threads/random.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The rows that a block's first bytes make, as a hex editor would print them. */
static void expected_rows(const unsigned char *bytes, size_t count, char *rows) {
    for (size_t at = 0; at < count; at += 16) {
        size_t n = least(16, count - at);
        rows += sprintf(rows, "    %04zX ", at);
        for (size_t i = 0; i < 16; i++) {
            rows += sprintf(rows, i == 8 ? "  " : " ");
            rows += i < n ? sprintf(rows, "%02X", bytes[at + i]) : sprintf(rows, "  ");
        }
        rows += sprintf(rows, "  |");
        for (size_t i = 0; i < n; i++)
            *rows++ = isprint(bytes[at + i]) ? (char)bytes[at + i] : '.';
        rows += sprintf(rows, "|\n");
    }
    *rows = '\0';
}

static void expect_rows(const unsigned char *block, size_t size, size_t count) {
    static char rows[100000];
    const char *line = line_of_block(block, size);
    check(line, "a block of %zu bytes is not listed", size);
    line = strchr(line, '\n') + 1;
    expected_rows(block, least(size, count), rows);
    check(strncmp(line, rows, strlen(rows)) == 0, "expected:\n%sfound:\n%.1000s", rows, line);
    line += strlen(rows);
    check(strncmp(line, "    ", 4) != 0 || line[4] == ' ', "more bytes than %zu of %zu", count, size);
}

static void shows_first_bytes(void) {
    static const size_t sizes[] = {0, 1, 15, 16, 17, 63, 64, 65, 1000, 1024, 5000, 65536, 70000, 300000};
    static const size_t lengths[] = {0, 1, 16, 40, 64, 100, 4000};
    unsigned char *blocks[COUNT(sizes)];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        blocks[i] = malloc(sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            blocks[i][j] = pattern_at(i, j);
    }
    for (size_t l = 0; l < COUNT(lengths); l++) {
        show((struct cadastre_show){.hexdump = lengths[l]});
        for (size_t i = 0; i < COUNT(sizes); i++)
            expect_rows(blocks[i], sizes[i], lengths[l]);
    }
    show((struct cadastre_show){.hexdump = SIZE_MAX, .size_max = 6000});
    expect_rows(blocks[10], 5000, SIZE_MAX);
}

static void json_has_the_same(void) {
    unsigned char *block = malloc(200);
    char bytes[2 * 100 + 1];
    for (size_t i = 0; i < 200; i++)
        block[i] = pattern_at(1, i);
    for (size_t i = 0; i < 100; i++)
        sprintf(bytes + 2 * i, "%02X", block[i]);
    show((struct cadastre_show){
        .hexdump = 100, .format = CADASTRE_JSON, .from = block, .to = block + 1, .what = CADASTRE_SHOW_BLOCKS});
    check(lines_with("\n") == 1 && lines_with(bytes) == 1, "expected %s in:\n%s", bytes, shown);
}

/* ---------------------------------------------------------------------------------------------- out of reach */
static void pages_that_cannot_be_read(void) {
    char *whole = malloc(300000), *half = malloc(300000);
    memset(whole, 'x', 300000);
    memset(half, 'x', 300000);
    check((uintptr_t)whole % 4096 == 0 && mprotect(whole, 8192, PROT_NONE) == 0 &&
              mprotect(half + 4096, 4096, PROT_NONE) == 0,
          "cannot take pages away");
    show((struct cadastre_show){.hexdump = 8192});
    const char *line = line_of_block(whole, 300000);
    check(line && strncmp(strchr(line, '\n') + 1, "    ", 4) != 0, "bytes of a page that cannot be read");
    line = line_of_block(half, 300000);
    check(line, "a block is not listed");
    check(strstr(line, "    0FF0  78"), "the readable page is not shown to its end");
    check(!strstr(line, "    1000  "), "bytes of a page that cannot be read");
    mprotect(whole, 8192, PROT_READ | PROT_WRITE);
    mprotect(half, 8192, PROT_READ | PROT_WRITE);
    free(whole);
    free(half);
}

/* A sandbox that has no such system call. */
static void without_the_system_call(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {COUNT(filter), filter};
    char *block = calloc(1, 100);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        skip_case("no seccomp here");
    show((struct cadastre_show){.hexdump = 16});
    check(line_of_block(block, 100) && !strstr(shown, "    0000"), "not shown, or with bytes");
    show((struct cadastre_show){.hexdump = 16, .format = CADASTRE_JSON});
    check(strstr(shown, "\"size\":100,") && lines_with("\"bytes\":\"\"}") > 0, "JSON:\n%s", shown);
}

/* -------------------------------------------------------------------------------------------- freed meanwhile
 * The output goes to a pipe that is full while the writer is at one of the first blocks; it has seen the others live.
 * What is freed then must not be shown with its bytes: it is left out.
 */
enum { BLOCKS = 24, BYTES = 4096, FREED = 8 };

static int ends[2];

static void *show_into_pipe(void *argument) {
    struct cadastre_show what = {
        .size = sizeof what, .fd = ends[1], .hexdump = BYTES, .what = CADASTRE_SHOW_BLOCKS, .size_min = BYTES};
    check(show_alloc_mem_ex(&what) == 0, "show_alloc_mem_ex: %s", strerror(errno));
    close(ends[1]);
    return argument;
}

static size_t pipe_bytes(void) {
    int bytes = 0;
    ioctl(ends[0], FIONREAD, &bytes);
    return (size_t)bytes;
}

static int by_address(const void *a, const void *b) {
    return *(char *const *)a < *(char *const *)b ? -1 : 1;
}

static void freed_meanwhile(size_t size) {
    char *blocks[BLOCKS];
    const struct timespec pause = {.tv_nsec = 1000000};
    pthread_t writer;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(size);
        check(blocks[i], "no memory for %d blocks of %zu bytes", BLOCKS, size);
        memset(blocks[i], 'a' + (int)i, BYTES);
    }
    qsort(blocks, BLOCKS, sizeof *blocks, by_address); /* those that are shown last are freed */
    check(pipe(ends) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 0, "no pipe of one page");
    check(pthread_create(&writer, NULL, show_into_pipe, NULL) == 0, "no thread");
    while (pipe_bytes() < 4096)
        nanosleep(&pause, NULL);
    nanosleep(&pause, NULL);
    for (size_t i = BLOCKS - FREED; i < BLOCKS; i++)
        free(blocks[i]);
    size_t length = 0;
    ssize_t n;
    while ((n = read(ends[0], shown + length, sizeof shown - 1 - length)) > 0)
        length += (size_t)n;
    shown[length] = '\0';
    pthread_join(writer, NULL);
    close(ends[0]);
    for (size_t i = 0; i < BLOCKS; i++) {
        const char *line = line_of_block(blocks[i], size);
        check(!line == (i >= BLOCKS - FREED), "block %zu, %s, is %slisted", i, i < BLOCKS - FREED ? "live" : "freed",
              line ? "" : "not ");
        if (line)
            expect_rows((unsigned char *)blocks[i], size, BYTES);
    }
    for (size_t i = 0; i < BLOCKS - FREED; i++)
        free(blocks[i]);
    expect_silence();
}

static void small_freed_meanwhile(void) {
    freed_meanwhile(BYTES);
}

static void large_freed_meanwhile(void) {
    freed_meanwhile(70000);
}

static void unmapped_meanwhile(void) {
    freed_meanwhile(17 << 20); /* too large to be kept */
}

/* --------------------------------------------------------------------------------------------- under 16 threads */
enum { THREADS = 16, CALLS = 40, KEPT = 50 };

static atomic_int stop;
static uint64_t seed;

static void *map_and_unmap(void *argument) {
    struct rng rng = rng_stream(seed, (uintptr_t)argument);
    void *held[8] = {NULL};
    while (!atomic_load(&stop)) {
        size_t i = rng_between(&rng, 0, COUNT(held) - 1), kind = rng_between(&rng, 0, 9);
        size_t size = kind == 0 ? 5u << 20 : kind < 4 ? rng_between(&rng, 66000, 200000) : rng_between(&rng, 1, 20000);
        const struct timespec pause = {.tv_nsec = 100000};
        free(held[i]);
        held[i] = malloc(size);
        memset(held[i], 1, least(size, 64));
        nanosleep(&pause, NULL);
    }
    for (size_t i = 0; i < COUNT(held); i++)
        free(held[i]);
    return NULL;
}

static void under_threads(void) {
    pthread_t threads[THREADS];
    unsigned char *kept[KEPT];
    size_t size_of[KEPT];
    seed = random_seed();
    for (size_t i = 0; i < KEPT; i++) {
        size_of[i] = i % 5 ? i * 37 + 1 : 70000 + i;
        kept[i] = malloc(size_of[i]);
        for (size_t j = 0; j < size_of[i]; j++)
            kept[i][j] = pattern_at(i, j);
    }
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, map_and_unmap, (void *)t) == 0, "no thread");
    for (int call = 0; call < CALLS; call++) {
        show((struct cadastre_show){.hexdump = 48});
        for (size_t i = 0; i < KEPT; i++)
            expect_rows(kept[i], size_of[i], 48);
    }
    atomic_store(&stop, 1);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    expect_silence();
}

static const struct test_case cases[] = {
    {"the first bytes of each block, as text", shows_first_bytes},
    {"the same in JSON", json_has_the_same},
    {"pages that cannot be read are left out", pages_that_cannot_be_read},
    {"a sandbox without process_vm_readv: no bytes", without_the_system_call},
    {"SMALL blocks freed meanwhile are left out", small_freed_meanwhile},
    {"LARGE blocks freed meanwhile are left out", large_freed_meanwhile},
    {"LARGE blocks unmapped meanwhile are left out", unmapped_meanwhile},
    {"16 threads: the bytes of those that stay", under_threads},
};

MAIN_OF_CASES(cases)
