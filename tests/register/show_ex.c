/*
 * show_alloc_mem_ex: every block with its zone and slab, the counts, each filter, what it refuses, and descriptors that
 * take nothing.
 */
#include "register/shown.h"

#include <fcntl.h>

enum { BLOCKS = 60 };

static void *blocks[BLOCKS];
static int arena; /* of this thread */

static size_t size_of(size_t i) {
    static const size_t sizes[] = {0, 1, 40, 48, 100, 1000, 1024, 1025, 5000, 65536, 65537, 300000};
    return sizes[i % COUNT(sizes)];
}

static int note_arena(void *wanted, const cadastre_block *block) {
    if (block->address == wanted)
        arena = block->arena;
    return block->address == wanted;
}

static void fill(void) {
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(size_of(i));
    check(cadastre_walk(note_arena, blocks[1]) == 1 && arena >= 0, "no arena");
}

/* Of the blocks exactly those are listed for which `wanted` says so; how many they are. */
static size_t expect_blocks(struct cadastre_show what, int (*wanted)(size_t i)) {
    size_t count = 0;
    show(what);
    for (size_t i = 0; i < BLOCKS; i++) {
        int listed = line_of_block(blocks[i], size_of(i)) != NULL;
        check(listed == wanted(i), "block %zu, of %zu bytes, is %slisted", i, size_of(i), listed ? "" : "not ");
        count += (size_t)listed;
    }
    return count;
}

static int always(size_t i) {
    return i < BLOCKS;
}

static void lists_everything(void) {
    fill();
    check(expect_blocks((struct cadastre_show){.fd = 0}, always) == BLOCKS, "not all");
    check(lines_with("TINY : 0x") == 1 && lines_with("SMALL : 0x") == 1, "one zone of each");
    check(lines_with("LARGE : 0x") >= BLOCKS / 6, "a heading for each LARGE block");
    check(line_of("Total : "), "no total");
}

/* ------------------------------------------------------------------------------------------------ the filters */
static int is_middle(size_t i) {
    return size_of(i) >= 48 && size_of(i) <= 5000;
}

static int is_large(size_t i) {
    return size_of(i) > 65536;
}

static int is_not_small(size_t i) {
    return size_of(i) <= 1024 || is_large(i);
}

static int is_in_zones(size_t i) {
    return !is_large(i);
}

static int never(size_t i) {
    return i >= BLOCKS;
}

static uintptr_t from, to;

static int is_between(size_t i) {
    uintptr_t start = (uintptr_t)blocks[i], end = start + (size_of(i) > 0 ? size_of(i) : 1);
    return start < to && end > from;
}

static void filters(void) {
    fill();
    struct cadastre_show what = {.size_min = 48, .size_max = 5000};
    expect_blocks(what, is_middle);
    expect_blocks((struct cadastre_show){.size_min = 65537}, is_large);
    expect_blocks((struct cadastre_show){.categories = 1u << CADASTRE_LARGE}, is_large);
    check(lines_with("TINY") + lines_with("SMALL") == 0, "zones are shown though LARGE is asked for");
    expect_blocks((struct cadastre_show){.categories = 1u << CADASTRE_LARGE | 1u << CADASTRE_TINY}, is_not_small);
    expect_blocks((struct cadastre_show){.arenas = UINT64_C(1) << arena}, is_in_zones);
    check(lines_with("LARGE") == 0, "LARGE mappings are shown though an arena is asked for");
    expect_blocks((struct cadastre_show){.arenas = ~(UINT64_C(1) << arena)}, never);
    for (size_t i = 0; i < BLOCKS; i++) {
        /* From the last byte of one to the first of the other. */
        size_t j = (i * 7 + 5) % BLOCKS, low = blocks[i] < blocks[j] ? i : j, high = low == i ? j : i;
        from = (uintptr_t)blocks[low] + (size_of(low) > 0 ? size_of(low) - 1 : 0);
        to = (uintptr_t)blocks[high] + 1;
        what = (struct cadastre_show){.from = (void *)from, .to = (void *)to};
        check(expect_blocks(what, is_between) >= 1 + (low != high), "neither end is in the range");
        if (low == high || size_of(low) == 0)
            continue;
        /* From behind the one to before the other. */
        from++, to--;
        what = (struct cadastre_show){.from = (void *)from, .to = (void *)to};
        expect_blocks(what, is_between);
        check(!line_of_block(blocks[low], size_of(low)) && !line_of_block(blocks[high], size_of(high)), "its ends are");
    }
    expect_blocks((struct cadastre_show){.to = (void *)1}, never);
    expect_blocks((struct cadastre_show){.from = (void *)(UINTPTR_MAX - 1)}, never);
}

static void total_is_of_what_is_let_through(void) {
    char line[80];
    size_t count = 0, bytes = 0;
    fill();
    for (size_t i = 0; i < BLOCKS; i++) {
        count += (size_t)is_large(i);
        bytes += is_large(i) ? size_of(i) : 0;
    }
    snprintf(line, sizeof line, "Total : %zu bytes in %zu blocks\n", bytes, count);
    show((struct cadastre_show){.size_min = 65537});
    check(line_of(line), "no line %s in:\n%s", line, shown);
    show((struct cadastre_show){.size_min = 65537, .what = CADASTRE_SHOW_TOTALS});
    check(strcmp(shown, line) == 0, "the total alone is:\n%s", shown);
}

static void shows_what_is_asked_for(void) {
    fill();
    show((struct cadastre_show){.what = CADASTRE_SHOW_ZONES});
    check(line_of("TINY : ") && line_of("SMALL : ") && line_of("LARGE : "), "zones:\n%s", shown);
    check(!line_of("0x") && !line_of("Total"), "more than zones:\n%s", shown);
    show((struct cadastre_show){.what = CADASTRE_SHOW_SLABS});
    check(line_of("TINY : ") && line_of("0x") && !line_of("Total") && !line_of("LARGE"), "slabs:\n%s", shown);
    check(!line_of_block(blocks[1], size_of(1)), "more than slabs:\n%s", shown);
    expect_blocks((struct cadastre_show){.what = CADASTRE_SHOW_BLOCKS}, always);
    check(line_of("TINY : ") && line_of("SMALL : ") && line_of("LARGE : "), "headings over blocks");
    check(!line_of("Total") && !lines_with("slab"), "more than blocks");
}

/* ------------------------------------------------------------------------------------------------- the counts */
enum { OF_CLASS = 10, CLASS = 640 }; /* nothing else here is of this class */

static void count_slab(size_t *total, size_t *live, size_t *cached, size_t *unused) {
    size_t class = 0, percent;
    show((struct cadastre_show){.what = CADASTRE_SHOW_SLABS});
    for (const char *line = shown; class != CLASS && (line = strchr(line, '\n')); line++)
        if (sscanf(line, " 0x%*x %zu %zu %zu %zu %zu %zu%%", &class, total, live, cached, unused, &percent) < 6)
            class = 0;
    check(class == CLASS, "no slab of %d bytes in:\n%s", CLASS, shown);
    check(*total == *live + *cached + *unused, "the counts do not add up");
    check(percent == (*unused * CLASS * 100 + 32768) / 65536, "fragmentation is %zu%%", percent);
}

static void counts(void) {
    void *held[OF_CLASS];
    size_t total, live, cached, unused, was_cached;
    for (size_t i = 0; i < OF_CLASS; i++)
        held[i] = malloc(CLASS - i);
    count_slab(&total, &live, &was_cached, &unused);
    check(total == 65536 / CLASS && live == OF_CLASS, "%zu of %zu are live", live, total);
    for (size_t i = 0; i < 4; i++)
        free(held[i]);
    count_slab(&total, &live, &cached, &unused);
    check(live == OF_CLASS - 4 && cached == was_cached + 4, "4 freed: %zu live, %zu cached", live, cached);
    for (size_t i = 4; i < OF_CLASS; i++)
        free(held[i]);
}

/* ------------------------------------------------------------------------------------------- what it refuses */
static void expect_error(const struct cadastre_show *what, int error) {
    errno = 0;
    check(show_alloc_mem_ex(what) == -1 && errno == error, "errno is %d, not %d", errno, error);
}

static void refuses_what_it_does_not_know(void) {
    struct {
        struct cadastre_show known;
        char later[16];
    } longer = {.known = {.size = sizeof longer, .fd = STDERR_FILENO, .what = CADASTRE_SHOW_TOTALS}};
    struct cadastre_show what = {.size = 0, .fd = STDERR_FILENO};
    expect_error(&what, EINVAL);
    what.size = sizeof what - 1;
    expect_error(&what, EINVAL);
    what.size = sizeof what;
    what.what = CADASTRE_SHOW_TOTALS << 8;
    expect_error(&what, EINVAL);
    what.what = 0;
    what.categories = 8;
    expect_error(&what, EINVAL);
    what.categories = 0;
    what.format = (enum cadastre_format)2;
    expect_error(&what, EINVAL);
    longer.later[15] = 1;
    expect_error(&longer.known, EINVAL);
    expect_silence();
    longer.later[15] = 0;
    check(show_alloc_mem_ex(&longer.known) == 0, "a longer structure of zeros: %s", strerror(errno));
    check(next_error(), "and nothing printed");
}

static void descriptors_that_take_nothing(void) {
    struct cadastre_show what = {.size = sizeof what, .fd = -1};
    int ends[2];
    fill();
    expect_error(&what, EIO);
    what.fd = 999;
    expect_error(&what, EIO);
    check(pipe(ends) == 0, "no pipe");
    what.fd = ends[0];
    expect_error(&what, EIO);
    close(ends[0]);
    what.fd = ends[1];
    expect_error(&what, EIO); /* and no SIGPIPE */
    what.fd = open("/dev/full", O_WRONLY);
    expect_error(&what, EIO);
    what.format = CADASTRE_JSON;
    expect_error(&what, EIO);
    errno = 0;
    check(show_alloc_mem_map(what.fd) == -1 && errno == EIO, "the picture: errno is %d", errno);
    check(show_alloc_mem_map(-1) == -1 && errno == EIO, "the picture: errno is %d", errno);
    expect_silence();
}

static void catch_output(void (*call)(void)) {
    int file = memfd_create("output", MFD_CLOEXEC), out = dup(STDOUT_FILENO);
    dup2(file, STDOUT_FILENO);
    errno = 4321;
    call();
    int after = errno;
    dup2(out, STDOUT_FILENO);
    close(out);
    ssize_t length = pread(file, shown, sizeof shown - 1, 0);
    shown[length] = '\0';
    close(file);
    check(length > 0 && after == 4321, "%zd bytes, errno %d", length, after);
}

static void by_default(void) {
    static const struct cadastre_show zeros = {.size = sizeof zeros};
    check(show_alloc_mem_ex(NULL) == 0 && show_alloc_mem_ex(&zeros) == 0, "defaults");
}

static void goes_to_standard_output(void) {
    static char first[sizeof shown];
    fill();
    catch_output(show_alloc_mem);
    strcpy(first, shown);
    catch_output(show_alloc_memory);
    check(strcmp(first, shown) == 0, "show_alloc_memory prints something else than show_alloc_mem");
    catch_output(by_default);
    size_t half = strlen(shown) / 2;
    check(memcmp(shown, shown + half, half) == 0, "NULL prints something else than zeros:\n%s", shown);
    check(line_of_block(blocks[2], size_of(2)) && line_of("Total : ") && lines_with("slab") > 0, "not all is there");
}

static const struct test_case cases[] = {
    {"every block, zone and LARGE mapping, and a total", lists_everything},
    {"filters by size, category, arena and address", filters},
    {"the total is of what the filters let through", total_is_of_what_is_let_through},
    {"zones, slabs, blocks, totals: what is asked for", shows_what_is_asked_for},
    {"live, cached and free blocks of a slab", counts},
    {"an unknown size, flag or format: EINVAL", refuses_what_it_does_not_know},
    {"closed and full descriptors: EIO", descriptors_that_take_nothing},
    {"NULL and zeros: all, on standard output", goes_to_standard_output},
};

MAIN_OF_CASES(cases)
