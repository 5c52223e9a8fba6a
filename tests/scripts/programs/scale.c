/*
 * What scripts/evaluate asks of a malloc: one item of the scale for each run, with the library preloaded. Exits with 0
 * when the item holds, else prints what does not. Allocates nothing for itself.
 *
 *   scale count LIBRARY MODE   prints the page reclaims of MODE with the library preloaded: the median of 51 runs
 *   scale MODE                 see the end
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB      ((size_t)1024)
#define MIB      (1024 * KIB)
#define RUNS     51  /* where the kernel maps a file decides how many faults that takes */
#define IN_ZONES 200 /* blocks: when they do not fit one zone, the first is full */
#define TEXT     "the text that was there before"

extern char **environ;

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    _exit(1);
}

/* Keeps the compiler from knowing what a pointer is. */
static void *opaque(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

/* Whether the family and the map come from one library, which is not the C library. */
static void has_library(void) {
    static const char *const names[] = {"malloc", "free", "realloc", "show_alloc_mem"};
    Dl_info info;
    void *base = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *function = dlsym(RTLD_DEFAULT, names[i]);
        if (!function || !dladdr(function, &info) || (base && info.dli_fbase != base))
            fail("no %s", names[i]);
        base = info.dli_fbase;
    }
    printf("yes\n");
}

/* ---------------------------------------------------------------------------------------------------- pages */
static int by_value(const void *one, const void *other) {
    long a = *(const long *)one;
    long b = *(const long *)other;
    return (a > b) - (a < b);
}

static void count(const char *library, const char *mode) {
    char *arguments[] = {(char *)"scale", (char *)mode, NULL};
    long reclaims[RUNS];
    setenv("LD_PRELOAD", library, 1);
    for (size_t i = 0; i < RUNS; i++) {
        pid_t pid;
        int status;
        struct rusage usage;
        if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ) != 0)
            fail("cannot run %s", mode);
        if (wait4(pid, &status, 0, &usage) != pid || status != 0)
            fail("%s ends with wait status %d", mode, status);
        reclaims[i] = usage.ru_minflt;
    }
    qsort(reclaims, RUNS, sizeof *reclaims, by_value);
    printf("%ld\n", reclaims[RUNS / 2]);
}

static void loop(int allocates, int frees) {
    for (int i = 0; i < 1024; i++) {
        if (allocates) {
            char *block = opaque(malloc(1024));
            block[0] = 42;
            if (frees)
                free(block);
        }
    }
}

static void empty_loop(void) {
    loop(0, 0);
}

static void malloc_loop(void) {
    loop(1, 0);
}

static void free_loop(void) {
    loop(1, 1);
}

/* -------------------------------------------------------------------------------------------------- realloc */
static void grow(int with_mapping) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *block = opaque(malloc(16 * MIB));
    if (!block)
        fail("malloc(16 MiB) gives NULL");
    strcpy(block, TEXT);
    strcpy(block + 16 * MIB - sizeof TEXT, TEXT);
    if (with_mapping) {
        /* Wherever the block ends, and in the next block that there is, so that it cannot grow in its place. */
        uintptr_t end = ((uintptr_t)block + 16 * MIB + page - 1) / page * page;
        mmap((void *)end, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (!opaque(malloc(16 * MIB)))
            fail("a second malloc(16 MiB) gives NULL");
    }
    block = opaque(realloc(block, 128 * MIB));
    if (!block)
        fail("realloc to 128 MiB gives NULL");
    if (strcmp(block, TEXT) != 0 || strcmp(block + 16 * MIB - sizeof TEXT, TEXT) != 0)
        fail("the text is not what it was");
    block[128 * MIB - 1] = 1;
    free(block);
}

static void grow_freely(void) {
    grow(0);
}

static void grow_away(void) {
    grow(1);
}

/* -------------------------------------------------------------------------------------------------- mistakes */
static char *make_text(void) {
    char *block = opaque(malloc(100));
    if (!block)
        fail("malloc(100) gives NULL");
    return strcpy(block, TEXT);
}

static void expect_text(char *block) {
    char *other = opaque(malloc(100));
    if (strcmp(block, TEXT) != 0)
        fail("the block's text is not what it was");
    if (!other || other == block)
        fail("malloc is not what it was");
    free(other);
    free(block);
}

static void free_null(void) {
    char *block = make_text();
    free(opaque(NULL));
    expect_text(block);
}

static void free_inside(void) {
    char *block = make_text();
    free(opaque(block + 5));
    expect_text(block);
}

static void realloc_inside(void) {
    char *block = make_text();
    if (opaque(realloc(opaque(block + 5), 10)) != NULL)
        fail("realloc gives a block");
    expect_text(block);
}

/* ------------------------------------------------------------------------------------------------------ map */
struct shown {
    const char *category; /* points into the output */
    uintptr_t zone, start, end;
    size_t size;
};

static char output[256 << 10];
static struct shown shown[4000];
static size_t shown_count;

/* What show_alloc_mem prints is read into `shown`: by address, its total right. */
static void show(void) {
    void (*show_alloc_mem)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "show_alloc_mem");
    int file = memfd_create("map", 0);
    int saved = dup(STDOUT_FILENO);
    if (!show_alloc_mem)
        fail("there is no show_alloc_mem");
    dup2(file, STDOUT_FILENO);
    show_alloc_mem();
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    ssize_t length = pread(file, output, sizeof output - 1, 0);
    close(file);
    output[length < 0 ? 0 : length] = '\0';

    struct shown block = {.category = ""};
    size_t sum = 0;
    size_t total = SIZE_MAX;
    uintptr_t end = 0;
    shown_count = 0;
    for (char *line = output; *line; line += strcspn(line, "\n") + 1) {
        if (sscanf(line, "Total : %zu", &total) == 1)
            break;
        if (line[0] != '0' && sscanf(line, "%*s : %lx", &block.zone) == 1) {
            block.category = line;
            continue;
        }
        if (sscanf(line, "%lx - %lx : %zu", &block.start, &block.end, &block.size) != 3)
            fail("not a line of the map: %.*s", (int)strcspn(line, "\n"), line);
        if (block.end - block.start != block.size || block.start < end || block.zone > block.start)
            fail("sizes and addresses do not fit: %.*s", (int)strcspn(line, "\n"), line);
        end = block.end;
        sum += block.size;
        shown[shown_count++] = block;
        if (shown_count == sizeof shown / sizeof *shown)
            fail("too many blocks are live");
    }
    if (sum != total)
        fail("the total is %zu, and the blocks have %zu bytes", total, sum);
}

static const struct shown *find(const void *block) {
    for (size_t i = 0; i < shown_count; i++)
        if (shown[i].start == (uintptr_t)block)
            return &shown[i];
    return NULL;
}

static int is_in(const struct shown *block, const char *category) {
    return strncmp(block->category, category, strlen(category)) == 0;
}

static void show_mixed(void) {
    static const size_t sizes[] = {KIB, 32 * KIB, MIB, 16 * MIB, 128 * MIB};
    void *blocks[5];
    for (size_t i = 0; i < 5; i++)
        if (!(blocks[i] = opaque(malloc(sizes[i]))))
            fail("malloc(%zu) gives NULL", sizes[i]);
    show();
    for (size_t i = 0; i < 5; i++) {
        const struct shown *found = find(blocks[i]);
        if (!found || found->size != sizes[i])
            fail("the block of %zu bytes is %s", sizes[i], found ? "shown with another size" : "not shown");
        if (is_in(found, "LARGE") != (sizes[i] >= MIB))
            fail("the block of %zu bytes is not where it belongs", sizes[i]);
    }
    for (size_t i = 0; i < 5; i++)
        free(blocks[i]);
    show();
    for (size_t i = 0; i < 5; i++)
        if (find(blocks[i]))
            fail("the block of %zu bytes is shown after it was freed", sizes[i]);
}

/* ---------------------------------------------------------------------------------------------------- zones */
static int belongs(size_t size, const char *category) {
    void *block = opaque(malloc(size));
    show();
    const struct shown *found = find(block);
    if (!found)
        fail("a block of %zu bytes is not shown", size);
    int result = is_in(found, category);
    free(block);
    return result;
}

/* The largest size of a category, above `least`, which is of it. */
static size_t largest(size_t least, const char *category) {
    size_t above = 64 * MIB;
    while (above - least > 1) {
        size_t middle = least + (above - least) / 2;
        if (belongs(middle, category))
            least = middle;
        else
            above = middle;
    }
    return least;
}

/* Calls `visit` for each zone of a category when it holds IN_ZONES blocks of its largest size. */
static void each_zone(const char *category, size_t size, void (*visit)(const struct shown *first, size_t blocks)) {
    size_t alike = 0;
    for (size_t i = 0; i < IN_ZONES; i++)
        if (!opaque(malloc(size)))
            fail("malloc(%zu) gives NULL", size);
    show();
    for (size_t i = 0; i < shown_count; i += alike) {
        alike = 1;
        while (i + alike < shown_count && shown[i + alike].zone == shown[i].zone)
            alike++;
        if (is_in(&shown[i], category))
            visit(&shown[i], alike);
    }
}

static void both_kinds(void (*visit)(const struct shown *first, size_t blocks)) {
    size_t tiny = largest(1, "TINY");
    size_t small = largest(tiny + 1, "SMALL");
    each_zone("TINY", tiny, visit);
    each_zone("SMALL", small, visit);
}

static size_t fullest[2]; /* TINY, SMALL */

static void note_blocks(const struct shown *first, size_t blocks) {
    size_t *most = &fullest[is_in(first, "SMALL")];
    if (blocks > *most)
        *most = blocks;
}

static void zones_hold(void) {
    both_kinds(note_blocks);
    if (fullest[0] < 100 || fullest[1] < 100)
        fail("a TINY zone holds %zu blocks of the largest size, a SMALL one %zu", fullest[0], fullest[1]);
}

/* A zone begins on a page, and is as long as what the kernel mapped there: in whole pages, each zone its own. Where it
 * begins it may be closed to all access, as a guard. */
static void check_zone(const struct shown *first, size_t blocks) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    static char maps[64 << 10];
    int file = open("/proc/self/maps", O_RDONLY);
    size_t length = 0;
    for (ssize_t n; (n = read(file, maps + length, sizeof maps - 1 - length)) > 0;)
        length += (size_t)n;
    close(file);
    maps[length] = '\0';
    for (char *line = maps; *line; line += strcspn(line, "\n") + (strchr(line, '\n') != NULL)) {
        uintptr_t start;
        uintptr_t end;
        char access[5], open[5];
        if (sscanf(line, "%lx-%lx %4s", &start, &end, access) != 3 || first->zone < start || first->zone >= end)
            continue;
        const char *next = strchr(line, '\n');
        uintptr_t next_start, next_end;
        if (strncmp(access, "---", 3) == 0 && sscanf(next, "%lx-%lx %4s", &next_start, &next_end, open) == 3 &&
            next_start == end)
            end = next_end;
        if (first->zone % page != 0)
            fail("the zone at %#lx does not begin on a page of %zu bytes", first->zone, page);
        if (first[blocks - 1].end > end)
            fail("the zone at %#lx has a block behind its end", first->zone);
        return;
    }
    fail("the zone at %#lx is not mapped", first->zone);
}

static void zones_are_pages(void) {
    both_kinds(check_zone);
}

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"has-library", has_library}, {"empty", empty_loop},        {"malloc", malloc_loop},
    {"free", free_loop},          {"grow", grow_freely},        {"grow-away", grow_away},
    {"free-null", free_null},     {"free-inside", free_inside}, {"realloc-inside", realloc_inside},
    {"show", show_mixed},         {"zones-hold", zones_hold},   {"zones-are-pages", zones_are_pages},
};

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "count") == 0) {
        count(argv[2], argv[3]);
        return 0;
    }
    for (size_t i = 0; argc == 2 && i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run();
            fflush(stdout);
            _exit(0); /* what the C library frees at its end is not asked about */
        }
    }
    fprintf(stderr, "scale: see the head of its source\n");
    return 2;
}
