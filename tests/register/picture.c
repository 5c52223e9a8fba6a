/*
 * show_alloc_mem_map: each unit's character by what is live in it, in rows that a terminal of 80 columns holds, and
 * colours on a terminal only, where nobody objects to them.
 */
#include "register/shown.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <termios.h>

enum { UNIT = 65536, UNITS = 128, ROW = 64, LABEL = 15, ZONES = 20, WIDEST = 80 };

/* What a picture says of one zone. */
struct drawn {
    uintptr_t start;
    char category[8];
    unsigned arena;
    char units[UNITS + 1];
};

static struct drawn zones[ZONES];
static size_t zone_count;
static char *legend;

/* The two rows of a zone at `line`; what follows them. */
static char *read_zone(char *line, struct drawn *zone) {
    int at = 0;
    check(sscanf(line, "0x%lX %n", &zone->start, &at) == 1, "no address: %.100s", line);
    char *second = strchr(line, '\n') + 1;
    check(second - line == LABEL + ROW + 1, "a row of %td characters: %.100s", second - line, line);
    memcpy(zone->units, line + LABEL, ROW);
    check(sscanf(second, "%7s arena %u", zone->category, &zone->arena) == 2, "no category: %.100s", second);
    char *next = strchr(second, '\n') + 1;
    check(next - second == LABEL + ROW + 1, "a row of %td characters: %.100s", next - second, second);
    memcpy(zone->units + ROW, second + LABEL, ROW);
    return next;
}

static void read_picture(void) {
    char *line = shown;
    zone_count = 0;
    while (strncmp(line, "64 KiB each:", 12) != 0) {
        check(strchr(line, '\n'), "no legend");
        if (strncmp(line, "LARGE ", 6) == 0) {
            line = strchr(line, '\n') + 1;
            continue;
        }
        check(zone_count < ZONES, "too many zones");
        line = read_zone(line, &zones[zone_count++]);
    }
    legend = line;
}

static void draw_to(int fd) {
    errno = 4321;
    check(show_alloc_mem_map(fd) == 0 && errno == 4321, "show_alloc_mem_map: %s", strerror(errno));
}

static void draw(void) {
    int file = memfd_create("picture", MFD_CLOEXEC);
    draw_to(file);
    ssize_t length = pread(file, shown, sizeof shown - 1, 0);
    close(file);
    shown[length] = '\0';
    read_picture();
}

static char unit_at(const void *address) {
    for (size_t i = 0; i < zone_count; i++)
        if ((uintptr_t)address >= zones[i].start && (uintptr_t)address - zones[i].start < UNITS * (size_t)UNIT)
            return zones[i].units[((uintptr_t)address - zones[i].start) / UNIT];
    return '?';
}

/* ----------------------------------------------------------------------------------------------------- units */
static void frame_of_a_zone(void) {
    char *block = malloc(10);
    draw();
    check(zone_count >= 1, "no zone:\n%s", shown);
    for (size_t i = 0; i < zone_count; i++) {
        size_t header = strspn(zones[i].units + 1, "#");
        check(header > 0 && header < 20, "the header has %zu units", header);
        check(zones[i].units[0] == '|', "the first unit is no guard");
        check(strspn(zones[i].units + 1 + header, " .~*0123456789") == UNITS - 1 - header, "units: %s", zones[i].units);
        check(strcmp(zones[i].category, "TINY") == 0 || strcmp(zones[i].category, "SMALL") == 0, "category");
        check(i == 0 || zones[i].start > zones[i - 1].start, "zones do not ascend");
    }
    check(unit_at(block) == '1', "the unit of a small block is '%c'", unit_at(block));
    for (char *line = shown; *line; line = strchr(line, '\n') + 1)
        check(strchr(line, '\n') - line <= WIDEST, "too wide: %.100s", line);
    check(!strchr(shown, '\033'), "colours in a file");
    check(legend && strlen(legend) > 50, "the legend is: %s", legend);
}

/* A slab of 64 blocks of 1,024 bytes: how many are live makes the character. */
static void shares(void) {
    enum { BLOCKS = UNIT / 1024, SLABS = 3 };
    static char *blocks[BLOCKS * SLABS];
    char *held[BLOCKS];
    size_t count = 0;
    for (size_t i = 0; i < COUNT(blocks); i++)
        blocks[i] = malloc(1024);
    /* All of one unit: whole ones are served first to last. */
    uintptr_t unit = (uintptr_t)blocks[BLOCKS] / UNIT;
    for (size_t i = 0; i < COUNT(blocks); i++)
        if ((uintptr_t)blocks[i] / UNIT == unit)
            held[count++] = blocks[i];
    check(count == BLOCKS, "%zu blocks in a unit", count);
    for (size_t live = BLOCKS; live > 0; live--) {
        char expected = live == BLOCKS ? '*' : (char)('1' + live * 9 / BLOCKS);
        draw();
        check(unit_at(held[0]) == expected, "%zu of %d live: '%c' instead of '%c'", live, BLOCKS, unit_at(held[0]),
              expected);
        free(held[live - 1]);
    }
    draw();
    check(strchr("0.", unit_at(held[0])), "none live: '%c'", unit_at(held[0]));
}

/* Units that are given up are dirty, and idle once they are given back. */
static void dirty_and_idle(void) {
    enum { BLOCKS = 60 };
    static char *blocks[BLOCKS];
    size_t dirty = 0, cached = 0;
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(UNIT);
    draw();
    for (size_t i = 0; i < BLOCKS; i++)
        check(unit_at(blocks[i]) == '*', "a unit of one live block is '%c'", unit_at(blocks[i]));
    for (size_t i = 1; i < BLOCKS; i++)
        free(blocks[i]);
    draw();
    for (size_t i = 1; i < BLOCKS; i++) {
        dirty += unit_at(blocks[i]) == '.';
        cached += unit_at(blocks[i]) == '0';
    }
    check(dirty > 0 && dirty + cached == BLOCKS - 1, "%zu dirty, %zu cached:\n%s", dirty, cached, shown);
    check(unit_at(blocks[0]) == '*', "the one that is left is '%c'", unit_at(blocks[0]));
    malloc_trim(0);
    draw();
    for (size_t i = 1; i < BLOCKS; i++)
        check(unit_at(blocks[i]) == ' ', "after malloc_trim a unit is '%c'", unit_at(blocks[i]));
}

/* "N kind (M bytes)", summed over the lines for LARGE: one for each run of them that no zone interrupts. */
static size_t sum_large(const char *kind, size_t *bytes) {
    char pattern[40];
    size_t sum = 0;
    *bytes = 0;
    snprintf(pattern, sizeof pattern, " %s (", kind);
    for (const char *at = shown; (at = strstr(at, pattern)); at += strlen(pattern)) {
        const char *number = at;
        while (number > shown && number[-1] != ' ')
            number--;
        sum += strtoul(number, NULL, 10);
        *bytes += strtoul(at + strlen(pattern), NULL, 10);
    }
    return sum;
}

static void large_is_summed_up(void) {
    void *blocks[3];
    size_t bytes = 0, live, retired;
    draw();
    check(!strstr(shown, "LARGE"), "LARGE without a block:\n%s", shown);
    for (size_t i = 0; i < COUNT(blocks); i++)
        bytes += malloc_usable_size(blocks[i] = malloc(100000 * (i + 1)));
    draw();
    check(sum_large("live", &live) == 3 && live == bytes, "expected 3 live (%zu bytes) in:\n%s", bytes, shown);
    bytes -= malloc_usable_size(blocks[1]);
    free(blocks[1]);
    draw();
    check(sum_large("live", &live) == 2 && live == bytes && sum_large("retired", &retired) == 1 && retired >= 200000,
          "one freed:\n%s", shown);
}

/* However the zones lie among them: the lines together say all. */
static void large_between_zones(void) {
    enum { LARGE_BLOCKS = 4, BETWEEN = 120, HOLES_FILLED = 20 << 20 }; /* they do not fit above the zones */
    size_t sum = 0, bytes = 0, total = 0, lines = 0;
    for (size_t i = 0; i < LARGE_BLOCKS; i++) {
        total += malloc_usable_size(malloc(HOLES_FILLED + 100000 * i));
        for (size_t j = 0; j < BETWEEN; j++) /* more than a zone of them */
            check(malloc(UNIT), "no memory for %d times %d units", LARGE_BLOCKS, BETWEEN);
    }
    draw();
    for (const char *line = shown; (line = strstr(line, "LARGE  ")); line++, lines++) {
        size_t live, its_bytes;
        check(sscanf(line, "LARGE %zu live (%zu bytes)\n", &live, &its_bytes) == 2, "line %.100s", line);
        sum += live;
        bytes += its_bytes;
    }
    if (lines < 2)
        skip_case("this kernel puts no zone between LARGE mappings");
    check(sum == LARGE_BLOCKS && bytes == total, "%zu blocks, %zu bytes:\n%s", sum, bytes, shown);
}

/* -------------------------------------------------------------------------------------------------- terminals */
static int terminal, its_end;

static void open_terminal(void) {
    struct termios raw;
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0)
        skip_case("no pseudo-terminal here");
    its_end = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (its_end < 0 || tcgetattr(its_end, &raw) != 0)
        skip_case("no pseudo-terminal here");
    cfmakeraw(&raw);
    tcsetattr(its_end, TCSANOW, &raw);
}

static void *read_terminal(void *text) {
    size_t length = 0;
    ssize_t n;
    while (!strstr(text, "idle\n") && (n = read(terminal, (char *)text + length, 4096)) > 0)
        length += (size_t)n;
    return NULL;
}

/* Draws on the terminal, and leaves in `shown` what arrived there. */
static void draw_on_terminal(void) {
    static char text[1 << 20];
    pthread_t reader;
    memset(text, 0, sizeof text);
    check(pthread_create(&reader, NULL, read_terminal, text) == 0, "no thread");
    draw_to(its_end);
    pthread_join(reader, NULL);
    memcpy(shown, text, sizeof text);
}

static void without_colours(char *text) {
    char *to = text;
    for (; *text; text++) {
        if (*text == '\033')
            text += strcspn(text, "m");
        else
            *to++ = *text;
    }
    *to = '\0';
}

static void colours_on_a_terminal(void) {
    char *blocks[3] = {malloc(30), malloc(UNIT), malloc(70000)};
    open_terminal();
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    draw_on_terminal();
    check(strstr(shown, "\033[30;41m*\033[0m"), "a full unit is not red:\n%s", shown);
    size_t on = lines_with("\033["), off = lines_with("\033[0m");
    check(off * 2 == on, "%zu colours, %zu ends of one", on - off, off);
    int coloured = 0;
    for (char *at = shown; *at; at++) {
        if (*at == '\033')
            coloured = strncmp(at, "\033[0m", 4) != 0;
        check(*at != '\n' || !coloured, "a colour goes over a row's end");
    }
    without_colours(shown);
    read_picture();
    check(unit_at(blocks[0]) == '1' && unit_at(blocks[1]) == '*', "another picture without its colours:\n%s", shown);

    setenv("NO_COLOR", "1", 1);
    draw_on_terminal();
    check(!strchr(shown, '\033'), "colours though NO_COLOR=1");
    setenv("NO_COLOR", "", 1);
    draw_on_terminal();
    check(strchr(shown, '\033'), "an empty NO_COLOR turns colours off");
    setenv("TERM", "dumb", 1);
    draw_on_terminal();
    check(!strchr(shown, '\033'), "colours though TERM=dumb");
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    setenv("NO_COLORS", "1", 1);
    setenv("NOT_NO_COLOR", "1", 1);
    draw_on_terminal();
    check(strchr(shown, '\033'), "another variable turns colours off");
    clearenv();
    draw_on_terminal();
    check(strchr(shown, '\033'), "no environment turns colours off");
}

/* ---------------------------------------------------------------------------------------------------- threads */
enum { THREADS = 16, PICTURES = 100 };

static atomic_int stop;

static void *churn(void *argument) {
    void *held[200] = {NULL};
    for (size_t i = (size_t)argument; !atomic_load(&stop); i = i * 5 + 1) {
        free(held[i % 200]);
        held[i % 200] = malloc(i / 200 % 20 ? i % 3000 : 50000 + i % 50000);
        if (i % 64 == 0)
            sched_yield();
    }
    for (size_t i = 0; i < 200; i++)
        free(held[i]);
    return NULL;
}

static void under_threads(void) {
    pthread_t threads[THREADS];
    char *block = malloc(UNIT);
    for (size_t t = 0; t < THREADS; t++)
        check(pthread_create(&threads[t], NULL, churn, (void *)(t + 1)) == 0, "no thread");
    for (int i = 0; i < PICTURES; i++) {
        int file = memfd_create("picture", MFD_CLOEXEC);
        draw_to(file);
        ssize_t length = pread(file, shown, sizeof shown - 1, 0);
        close(file);
        shown[length] = '\0';
        char *row = strstr(shown, "64 KiB each:");
        check(row && !strchr(shown, '?') && strstr(shown, "idle\n"), "no whole picture:\n%s", shown);
    }
    atomic_store(&stop, 1);
    for (size_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    draw();
    check(unit_at(block) == '*', "a full unit is '%c'", unit_at(block));
    expect_silence();
}

static const struct test_case cases[] = {
    {"header, units and guard, at most 80 columns", frame_of_a_zone},
    {"the share of live blocks makes the character", shares},
    {"units that are given up, and given back", dirty_and_idle},
    {"LARGE mappings are summed up", large_is_summed_up},
    {"LARGE mappings between zones, each summed up once", large_between_zones},
    {"colours on a terminal, not with NO_COLOR", colours_on_a_terminal},
    {"while 16 threads allocate", under_threads},
};

MAIN_OF_CASES(cases)
