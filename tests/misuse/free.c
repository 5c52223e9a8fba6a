/*
 * free of what may not be freed: one line that says what was wrong, errno and the heap as they were, and the program
 * goes on. Each case is a process of its own.
 */
#include "cadastre.h"
#include "misuse/guard.h"

#include <malloc.h>
#include <pthread.h>

enum { UNTOUCHED = 4321 };

#define UNIT ((uintptr_t)64 << 10) /* a slab's size and alignment */

/* Frees what must not be, through a pointer that the compiler does not follow. */
static void free_wrongly(void *pointer) {
    errno = UNTOUCHED;
    free(opaque(pointer));
    check(errno == UNTOUCHED, "errno changed to %d", errno);
}

/* ---------------------------------------------------------------------------------------------- twice */
static void twice(size_t size) {
    guard_set();
    void *block = malloc(size);
    size_t class = malloc_usable_size(block);
    free(block);
    free_wrongly(block);
    expect_report("free(%p): double free: block of class %zu bytes, arena #", block, class);
    guard_check();
}

static void tiny_twice(void) {
    twice(42);
}

static void empty_twice(void) {
    twice(0);
}

static void small_twice(void) {
    twice(5000);
}

static void largest_small_twice(void) {
    twice(65536);
}

static void with_others_between(void) {
    guard_set();
    void *first = malloc(100), *second = malloc(100);
    size_t class = malloc_usable_size(first);
    free(first);
    free(second);
    free_wrongly(first);
    expect_report("free(%p): double free: block of class %zu bytes, arena #", first, class);
    free_wrongly(second);
    expect_report("free(%p): double free: block of class %zu bytes, arena #", second, class);
    guard_check();
}

/* Freed so long ago that it left every cache. */
static void twice_long_after(void) {
    static void *others[20000];
    guard_set();
    void *block = malloc(100);
    size_t class = malloc_usable_size(block);
    for (size_t i = 0; i < COUNT(others); i++)
        others[i] = malloc(100);
    free(block);
    for (size_t i = 0; i < COUNT(others); i += 2) /* every other one: their slabs stay in use */
        free(others[i]);
    free_wrongly(block);
    expect_report("free(%p): double free: block of class %zu bytes, arena #", block, class);
    for (size_t i = 1; i < COUNT(others); i += 2)
        free(others[i]);
    guard_check();
}

/* By now its slab may hold another class, be purged, or be gone with its zone: what is reported goes by that. */
static void twice_after_its_heap_went(void) {
    static void *others[30000];
    guard_set();
    for (size_t i = 0; i < COUNT(others); i++)
        memset(others[i] = malloc(2000), 1, 2000);
    for (size_t i = 0; i < COUNT(others); i++)
        free(others[i]);
    free_wrongly(others[COUNT(others) / 2]);
    expect_report("free(%p): *", others[COUNT(others) / 2]);
    guard_check();
}

static void *free_it(void *block) {
    free(block);
    return NULL;
}

static void freed_by_another_thread_first(void) {
    pthread_t thread;
    void *block = malloc(42);
    size_t class = malloc_usable_size(block);
    pthread_create(&thread, NULL, free_it, block);
    pthread_join(thread, NULL);
    guard_set();
    free_wrongly(block);
    expect_report("free(%p): double free: block of class %zu bytes, arena #", block, class);
    guard_check();
}

static void *free_it_again(void *block) {
    free_wrongly(block);
    return NULL;
}

static void by_another_thread_again(void) {
    pthread_t thread;
    guard_set();
    void *block = malloc(42);
    size_t class = malloc_usable_size(block);
    free(block);
    pthread_create(&thread, NULL, free_it_again, block);
    pthread_join(thread, NULL);
    expect_report("free(%p): double free: block of class %zu bytes, arena #", block, class);
    guard_live(); /* the thread's own remains are the C library's */
    guard_check();
}

/* A LARGE block leaves the register with its first free; what lies there then is reported. */
static void expect_large_report(const char *name, void *block) {
    const char *line = next_error();
    char cached[256], gone[256], taken[256];
    snprintf(cached, sizeof cached, "cadastre: %s(%p): double free: LARGE span of # bytes", name, block);
    snprintf(gone, sizeof gone, "cadastre: %s(%p): foreign pointer: lies in no mapping", name, block);
    snprintf(taken, sizeof taken, "cadastre: %s(%p): foreign pointer: lies in @-@ *", name, block);
    check(line && (matches(line, cached) || matches(line, gone) || matches(line, taken)), "report: %s",
          line ? line : "none");
}

static void large_twice(void) {
    guard_set();
    void *block = malloc(1 << 20);
    free(block);
    free_wrongly(block);
    expect_large_report("free", block);
    guard_check();
}

static void huge_twice(void) {
    guard_set();
    void *block = malloc(64 << 20);
    free(block);
    free_wrongly(block);
    expect_large_report("free", block);
    guard_check();
}

/* ------------------------------------------------------------------------------- not the start of a block */
static void inside_live(size_t size, size_t offset, const char *place) {
    char *block = malloc(size);
    pattern_write(block, size, 77);
    guard_set();
    free_wrongly(block + offset);
    expect_report("free(%p): not the start of a block: %zu bytes into a live block of %zu bytes at %p, %s",
                  (void *)(block + offset), offset, size, (void *)block, place);
    check(pattern_holds(block, size, 77), "the block itself changed");
    guard_check();
    free(block);
    expect_silence();
}

static void inside_tiny(void) {
    inside_live(42, 16, "arena #");
}

static void one_byte_inside(void) {
    inside_live(100, 1, "arena #");
}

static void inside_small(void) {
    inside_live(30000, 20000, "arena #");
}

static void inside_large(void) {
    inside_live(1 << 20, 16, "LARGE");
}

static void far_inside_large(void) {
    inside_live(9 << 20, (8 << 20) + 64, "LARGE"); /* past the next boundary where a zone could start */
}

static void inside_freed(void) {
    guard_set();
    char *block = malloc(1000);
    size_t class = malloc_usable_size(block);
    free(block);
    free_wrongly(block + 16);
    expect_report("free(%p): not the start of a block: 16 bytes into a freed block of class %zu bytes at %p, arena #",
                  (void *)(block + 16), class, (void *)block);
    guard_check();
}

/* ------------------------------------------------------------------------------------ never handed out */
static void in_a_zone(uintptr_t address) {
    guard_set();
    free_wrongly((void *)address);
    expect_report("free(0x%lx): not a block: inside a zone, arena #, but no block is there now",
                  (unsigned long)address);
    guard_check();
}

static void a_zones_start(void) {
    struct heapmap map;
    void *block = malloc(42);
    map = heapmap_read();
    uintptr_t zone = heapmap_find(&map, (uintptr_t)block)->heading;
    in_a_zone(zone);
}

static void a_zones_header(void) {
    struct heapmap map;
    void *block = malloc(42);
    map = heapmap_read();
    uintptr_t zone = heapmap_find(&map, (uintptr_t)block)->heading;
    in_a_zone(zone + 256);
}

/* Slabs hand out their lowest block first: after one block, the last place of its slab is untouched. */
static void an_untouched_place(void) {
    uintptr_t block = (uintptr_t)malloc(1024);
    in_a_zone((block | (UNIT - 1)) + 1 - 1024);
}

/* 65536 is no multiple of this class: a few bytes after the last place belong to no block. */
static void a_slabs_tail(void) {
    uintptr_t block = (uintptr_t)malloc(112), class = malloc_usable_size((void *)block);
    check(UNIT % class >= 16, "class %zu leaves no tail", (size_t) class);
    in_a_zone((block | (UNIT - 1)) + 1 - 16);
}

/* Addresses that were mapped with an aligned block, and are nobody's. */
static void behind_an_aligned_block(void) {
    guard_set();
    char *block = aligned_alloc(2 << 20, 64), *second = aligned_alloc(2 << 20, 64);
    char *behind = (block < second ? block : second) + malloc_usable_size(block);
    free_wrongly(behind);
    expect_report("free(%p): not a block: between aligned LARGE blocks, where none was", behind);
    free_wrongly(behind + 16);
    expect_report("free(%p): not a block: between aligned LARGE blocks, where none was", behind + 16);
    free(block);
    free(second);
    free_wrongly(second);
    expect_report("free(%p): *", second);
    guard_check();
}

/* ----------------------------------------------------------------------------------------------- foreign */
static char static_bytes[64] = "in .data";

/* Reports the mapping that the address lies in: its bounds, rights and name. */
static void foreign(void *pointer, const char *rest) {
    guard_set();
    free_wrongly(pointer);
    const char *line = next_error();
    char pattern[256];
    snprintf(pattern, sizeof pattern, "cadastre: free(%p): foreign pointer: lies in @-@ %s", pointer, rest);
    check(line && matches(line, pattern), "report: %s; expected: %s", line ? line : "none", pattern);
    unsigned long low = 0, high = 0;
    const char *range = strstr(line, "lies in ");
    check(sscanf(range, "lies in %lx-%lx", &low, &high) == 2 && low <= (uintptr_t)pointer && (uintptr_t)pointer < high,
          "the mapping does not hold the pointer: %s", line);
    guard_check();
}

static void on_the_stack(void) {
    char bytes[64] __attribute__((aligned(16))) = "on the stack";
    foreign(opaque(bytes), "rw-p [stack]");
}

static void in_static_data(void) {
    foreign(static_bytes, "rw-p*");
}

static void in_code(void) {
    foreign((void *)(uintptr_t)in_code, "r-xp *free.t");
}

static void in_an_own_mapping(void) {
    char *bytes = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(bytes, 0x77, 1 << 20);
    foreign(bytes + 4096, "rw-p*");
    check(bytes[4096] == 0x77, "the mapping is gone or changed");
}

static void in_no_mapping(void *pointer) {
    guard_set();
    free_wrongly(pointer);
    expect_report("free(%p): foreign pointer: lies in no mapping", pointer);
    guard_check();
}

static void a_small_number(void) {
    in_no_mapping((void *)16);
}

static void minus_one(void) {
    in_no_mapping((void *)-1);
}

static void a_non_canonical_address(void) {
    in_no_mapping((void *)0x8000123456789ab0);
}

static void above_user_space(void) {
    in_no_mapping((void *)0x00ffff8000000000);
}

/* ------------------------------------------------------------------------------------- under other names */
static void by_the_prefixed_name(void) {
    guard_set();
    void *block = cadastre_malloc(42);
    cadastre_free(block);
    errno = UNTOUCHED;
    cadastre_free(opaque(block));
    check(errno == UNTOUCHED, "errno changed to %d", errno);
    expect_report("*free(%p): double free: block of class # bytes, arena #", block);
    guard_check();
}

static void without_standard_error(void) {
    guard_set();
    void *block = malloc(42);
    free(block);
    int errors = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    free_wrongly(block);
    free_wrongly(static_bytes);
    dup2(errors, STDERR_FILENO);
    guard_check();
}

static const struct test_case cases[] = {
    {"a TINY block twice", tiny_twice},
    {"a block of size 0 twice", empty_twice},
    {"a SMALL block twice", small_twice},
    {"the largest SMALL block twice", largest_small_twice},
    {"twice with others between", with_others_between},
    {"twice, long after", twice_long_after},
    {"twice, after the heap around it went", twice_after_its_heap_went},
    {"freed by another thread first", freed_by_another_thread_first},
    {"freed by another thread again", by_another_thread_again},
    {"a LARGE block twice", large_twice},
    {"a LARGE block of 64 MiB twice", huge_twice},
    {"16 bytes into a TINY block", inside_tiny},
    {"1 byte into a TINY block", one_byte_inside},
    {"20000 bytes into a SMALL block", inside_small},
    {"16 bytes into a LARGE block", inside_large},
    {"8 MiB into a LARGE block", far_inside_large},
    {"16 bytes into a freed block", inside_freed},
    {"behind an aligned block", behind_an_aligned_block},
    {"the start of a zone", a_zones_start},
    {"in the header of a zone", a_zones_header},
    {"a place where no block was handed out yet", an_untouched_place},
    {"after the last block of a slab", a_slabs_tail},
    {"on the stack", on_the_stack},
    {"in static data", in_static_data},
    {"in code", in_code},
    {"in a mapping of the program's own", in_an_own_mapping},
    {"a small number", a_small_number},
    {"minus one", minus_one},
    {"a non-canonical address", a_non_canonical_address},
    {"an address above user space", above_user_space},
    {"through cadastre_free", by_the_prefixed_name},
    {"without a standard error", without_standard_error},
};

MAIN_OF_CASES(cases)
