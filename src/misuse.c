#include "misuse.h"
#include "arenas.h"
#include "large.h"
#include "lock.h"
#include "message.h"
#include "syscall.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define REPORT_MAX 400

static struct text begin(char *buffer, const char *call, const void *pointer) {
    struct text text = {buffer, 0, REPORT_MAX - 1, -1};
    text_add(&text, call);
    text_add(&text, "(");
    text_add_hex(&text, (uintptr_t)pointer);
    text_add(&text, "): ");
    return text;
}

static void end(struct text *text, size_t count, const struct message_more *more) {
    text->buffer[text->length] = '\0';
    message_end_misuse(text->buffer, count, more);
}

static void add_bytes(struct text *text, const char *before, size_t bytes, const char *after) {
    text_add(text, before);
    text_add_decimal(text, bytes);
    text_add(text, after);
}

/* ------------------------------------------------------------------------------------------ foreign pointers */

/* Reads /proc/self/maps line by line, as that file has no bounded size and there is no memory to hold it. */
struct maps {
    long fd;
    size_t length;
    size_t at;
    char buffer[512];
};

static int next_char(struct maps *maps) {
    if (maps->at == maps->length) {
        long n;
        do
            n = syscall3(SYS_read, maps->fd, (long)maps->buffer, sizeof maps->buffer);
        while (n == -EINTR);
        if (n <= 0)
            return -1;
        maps->length = (size_t)n;
        maps->at = 0;
    }
    return (unsigned char)maps->buffer[maps->at++];
}

/* A line without its newline, cut to `capacity`; false at the end. */
static bool next_line(struct maps *maps, char *line, size_t capacity) {
    size_t length = 0;
    int c;
    while ((c = next_char(maps)) != -1 && c != '\n')
        if (length + 1 < capacity)
            line[length++] = (char)c;
    line[length] = '\0';
    return c != -1 || length > 0;
}

static uintptr_t parse_hex(const char **at) {
    uintptr_t value = 0;
    for (;; (*at)++) {
        unsigned char c = (unsigned char)**at;
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (c - 'a' + 10u);
        else
            return value;
    }
}

/* "start-end perms offset device inode   path" becomes "start-end perms path". */
static void add_mapping(struct text *text, const char *line) {
    size_t range = strcspn(line, " ");
    text_add_bytes(text, line, min_size(range + 5, strlen(line)));
    const char *path = strpbrk(line, "/[");
    if (path != NULL) {
        text_add(text, " ");
        text_add(text, path);
    }
}

/* Apart, so that its buffers are not below those of the report. */
static NOINLINE void add_foreign(struct text *text, uintptr_t address) {
    struct maps maps = {.length = 0};
    char line[256];
    text_add(text, "foreign pointer: lies in ");
    maps.fd = syscall4(SYS_openat, AT_FDCWD, (long)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
    bool found = false;
    while (maps.fd >= 0 && !found && next_line(&maps, line, sizeof line)) {
        const char *at = line;
        uintptr_t start = parse_hex(&at);
        at += *at == '-';
        found = address >= start && address < parse_hex(&at);
    }
    if (maps.fd >= 0)
        syscall3(SYS_close, maps.fd, 0, 0);
    if (found)
        add_mapping(text, line);
    else
        text_add(text, maps.fd >= 0 ? "no mapping" : "a mapping that cannot be looked up");
}

/* ---------------------------------------------------------------------------------------- pointers of our own */
static const char *freed_verdict(const char *call) {
    return strstr(call, "free") != NULL ? "double free: " : "use of a freed block: ";
}

static void add_interior(struct text *text, size_t offset, const char *state) {
    add_bytes(text, "not the start of a block: ", offset, " bytes into a ");
    text_add(text, state);
}

static void add_large(struct text *text, const char *call, uintptr_t address, const struct large_view *view) {
    size_t offset = address - view->start;
    bool live = view->kind == LARGE_LIVE;
    if (view->gap) {
        text_add(text, "not a block: between aligned LARGE blocks, where none was");
    } else if (offset > 0) {
        add_interior(text, offset, live ? "live block of " : "freed LARGE span of ");
        add_bytes(text, "", live ? view->size : view->span, " bytes at ");
        text_add_hex(text, view->start);
        text_add(text, live ? ", LARGE" : "");
    } else {
        text_add(text, freed_verdict(call));
        add_bytes(text, "LARGE span of ", view->span, " bytes");
    }
}

static void add_nothing(struct text *text, size_t arena) {
    add_bytes(text, "not a block: inside a zone, arena ", arena, ", but no block is there now");
}

/* The line is read once, as the slab may be given up meanwhile. */
static void add_slab(struct text *text, const char *call, uintptr_t address, const struct slab_line *line) {
    size_t class = slab_class(line);
    size_t size = sizeclasses[class].size;
    size_t arena = slab_arena(line);
    size_t index = (address & (UNIT_SIZE - 1)) / size;
    size_t start = round_down(address, UNIT_SIZE) + index * size;
    const state_byte *states = load_relaxed(slab_states(line));
    const state_byte *state = states + index;
    uint8_t value = states != NULL && index < sizeclasses[class].blocks ? load_relaxed(state) : STATE_UNTOUCHED;
    if (value == STATE_UNTOUCHED) {
        add_nothing(text, arena);
        return;
    }
    if (start == address) {
        text_add(text, freed_verdict(call));
        add_bytes(text, "block of class ", size, " bytes");
    } else if (value >= STATE_LIVE) {
        add_interior(text, address - start, "live block of ");
        add_bytes(text, "", slab_size_of(line, state), " bytes at ");
        text_add_hex(text, start);
    } else {
        add_interior(text, address - start, "freed block of class ");
        add_bytes(text, "", size, " bytes at ");
        text_add_hex(text, start);
    }
    add_bytes(text, ", arena ", arena, "");
}

static void add_place(struct text *text, unsigned arena) {
    if (arena == ARENA_NONE)
        text_add(text, ", LARGE");
    else
        add_bytes(text, ", arena ", arena, "");
}

COLD void misuse_report_freed(const char *call, const void *block, size_t size, unsigned arena,
                              const struct message_more *more) {
    char buffer[REPORT_MAX];
    size_t count;
    if (!message_begin_misuse(&count))
        return;
    struct text text = begin(buffer, call, block);
    text_add(&text, freed_verdict(call));
    add_bytes(&text, "block of ", size, " bytes");
    add_place(&text, arena);
    end(&text, count, more);
}

COLD void misuse_report_pointer(const char *call, const void *pointer, const struct message_more *more) {
    char buffer[REPORT_MAX];
    size_t count;
    if (!message_begin_misuse(&count))
        return;
    struct text text = begin(buffer, call, pointer);
    uintptr_t address = (uintptr_t)pointer;
    struct large_view view;
    const struct slab_line *line = directory_find(address);
    unsigned arena;
    if (load_relaxed(&line->reciprocal) != 0)
        add_slab(&text, call, address, line);
    else if (large_find(address, &view))
        add_large(&text, call, address, &view);
    else if (directory_find_zone(address, &arena))
        add_nothing(&text, arena);
    else
        add_foreign(&text, address);
    end(&text, count, more);
}

static void add_block(struct text *text, const void *block, size_t given, size_t size, size_t capacity) {
    add_bytes(text, "", given, " given, block of ");
    add_bytes(text, "", size, " bytes (capacity ");
    add_bytes(text, "", capacity, ")");
    add_place(text, slab_arena_at((uintptr_t)block));
}

COLD void misuse_report_given(const char *call, const void *block, const char *what, size_t given, size_t size,
                              size_t capacity, const struct message_more *more) {
    char buffer[REPORT_MAX];
    size_t count;
    if (!message_begin_misuse(&count))
        return;
    struct text text = begin(buffer, call, block);
    text_add(&text, "wrong ");
    text_add(&text, what);
    text_add(&text, ": ");
    add_block(&text, block, given, size, capacity);
    end(&text, count, more);
}

COLD void misuse_report_byte(const char *call, const char *what, const void *block, size_t size, unsigned arena,
                             size_t offset, uint8_t byte, const struct message_more *more) {
    char buffer[REPORT_MAX];
    size_t count;
    if (!message_begin_misuse(&count))
        return;
    struct text text = begin(buffer, call, block);
    text_add(&text, what);
    add_bytes(&text, ": byte ", offset, " is ");
    text_add_hex(&text, byte);
    add_bytes(&text, ", block of ", size, " bytes");
    add_place(&text, arena);
    end(&text, count, more);
}

bool misuse_is_inside_malloc(const char *call) {
    char buffer[REPORT_MAX];
    struct text text = {buffer, 0, REPORT_MAX - 1, -1};
    if (LIKELY(!lock_holds_any()))
        return false;
    text_add(&text, call);
    text_add(&text,
             ": not now: this thread was stopped inside malloc or free; let it leave (in gdb: finish) and ask again");
    buffer[text.length] = '\0';
    message_print(buffer);
    return true;
}
