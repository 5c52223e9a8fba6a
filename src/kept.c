#include "kept.h"
#include "arenas.h"
#include "syscall.h"
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#define CHUNK     ((size_t)128) /* words that are read at once */
#define EARLY_MAX 64
#define LIBRARIES 16
#define FILES_MAX 65536 /* in a list of files, which others may change */
#define FILE_SIZE 1152  /* the loader's structure of a file has so many bytes, and a few more */

#if defined(__x86_64__)
#define THREAD_POINTER(p) __asm__("mov %%fs:0, %0" : "=r"(p))
#define TABLE_OFFSET      8 /* of the pointer to the table of thread-local variables, from where that points */
#elif defined(__aarch64__)
#define THREAD_POINTER(p) __asm__("mrs %0, tpidr_el0" : "=r"(p))
#define TABLE_OFFSET      0
#endif

/* A file's thread-local variables. */
struct locals {
    size_t module;   /* their place in each thread's table; 0: there are none */
    uintptr_t start; /* the calling thread's */
    size_t size;
};

struct search {
    struct kept_block *blocks;
    size_t count;
    size_t pending; /* the number plus 1 of a block that was found and is to be looked into; `next` is the next one */
    struct locals ours;
    struct locals libraries[LIBRARIES];
    size_t library_count;
};

SPARSE static struct early {
    uintptr_t address;
    size_t size;
} early[EARLY_MAX]; /* written before there are threads, as the next */
static size_t early_count;

static bool note_early(void *argument, const struct walk_block *block) {
    (void)argument;
    early[early_count++] = (struct early){block->start, block->size};
    return early_count < EARLY_MAX;
}

void kept_note_start(void) {
    arenas_walk(note_early, NULL);
}

/* ---------------------------------------------------------------------------------------------- following */
/* How many words could be read. */
static size_t read_words(uintptr_t from, uintptr_t *words, size_t count) {
    struct iovec to = {words, count * sizeof *words};
    struct iovec source = {(void *)from, to.iov_len};
    long self = syscall3(SYS_getpid, 0, 0, 0);
    long got = syscall6(SYS_process_vm_readv, self, (long)&to, 1, (long)&source, 1, 0);
    return got > 0 ? (size_t)got / sizeof *words : 0;
}

/* The block that begins at this address; NULL: none does. */
static struct kept_block *find(const struct search *search, uintptr_t address) {
    size_t from = 0;
    size_t to = search->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (search->blocks[middle].address == address)
            return &search->blocks[middle];
        if (search->blocks[middle].address < address)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

static void mark(struct search *search, struct kept_block *block) {
    if (block == NULL || block->is_kept)
        return;
    block->is_kept = true;
    block->next = search->pending;
    search->pending = (size_t)(block - search->blocks) + 1;
}

/* glibc's; a stream that the program opened and never closed is the program's. */
extern char _IO_list_all __attribute__((weak));

/* The standard streams' structures, too, are looked at apart: where a buffer ends the next block may begin. */
static bool is_left_out(uintptr_t variable) {
#if defined(__GLIBC__) /* in others a stream's structure is not known */
    FILE *const streams[] = {stdin, stdout, stderr};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (variable - (uintptr_t)streams[i] < sizeof *streams[i])
            return true;
#endif
    return variable == (uintptr_t)&_IO_list_all;
}

static void scan(struct search *search, uintptr_t from, size_t size) {
    uintptr_t words[CHUNK];
    uintptr_t end = from + size;
    size_t got = 1;
    for (from = round_up(from, sizeof *words); got > 0 && from + sizeof *words <= end; from += got * sizeof *words) {
        got = read_words(from, words, min_size(CHUNK, (end - from) / sizeof *words));
        for (size_t i = 0; i < got; i++) {
            struct kept_block *block = find(search, words[i]);
            if (block != NULL && !is_left_out(from + i * sizeof *words))
                mark(search, block);
        }
    }
}

static void mark_stream(struct search *search, const FILE *stream) {
    (void)search, (void)stream;
#if defined(__GLIBC__)
    mark(search, find(search, (uintptr_t)stream->_IO_buf_base));
    mark(search, find(search, (uintptr_t)stream->_IO_save_base));
#endif
}

static void scan_pending(struct search *search) {
    while (search->pending != 0) {
        const struct kept_block *block = &search->blocks[search->pending - 1];
        search->pending = block->next;
        scan(search, block->address, block->size);
    }
}

/* ---------------------------------------------------------------------------------------------- the libraries */
#define LOADERS 3 /* are the first */

static bool is_one_of_first(size_t count, const char *path) {
    static const char *const names[] = {"ld-linux",     "ld64.so",   "ld-2",        "libc.so", "libc-2",
                                        "libpthread",   "libdl",     "libresolv",   "libnss_", "libgcc_s.so",
                                        "libstdc++.so", "libc++.so", "libc++abi.so"};
    const char *name = path;
    for (const char *at = path; *at != '\0'; at++)
        if (*at == '/')
            name = at + 1;
    for (size_t i = 0; i < min_size(count, sizeof names / sizeof *names); i++)
        if (strncmp(name, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool is_library(const char *path) {
    return is_one_of_first(SIZE_MAX, path);
}

static bool is_loader(const char *path) {
    return is_one_of_first(LOADERS, path);
}

/* ------------------------------------------------------------------------------------ the loader's first memory
 * What glibc's loader took before there was a malloc lies apart, also the program's thread-local variables: so it is
 * not looked into as a whole. Blocks come to hang on two things in it: on the structures of the files that the program
 * was started with, and on the head of the list of files that have thread-local variables. */
static void scan_files(struct search *search) {
#if defined(__GLIBC__)
    extern struct r_debug _r_debug __attribute__((weak));
    struct link_map file;
    const size_t words = sizeof file / sizeof(uintptr_t);
    const struct link_map *at = &_r_debug == NULL ? NULL : _r_debug.r_map;
    for (size_t i = 0; at != NULL && i < FILES_MAX; at = file.l_next, i++) {
        struct kept_block *block = find(search, (uintptr_t)at);
        if (block != NULL)
            mark(search, block);
        else
            scan(search, (uintptr_t)at, FILE_SIZE);
        if (read_words((uintptr_t)at, (uintptr_t *)&file, words) != words)
            return;
    }
#else
    (void)search;
#endif
}

/* If a piece of that list lies there, which has its length, then the next one, and two words for each file: marks the
 * next. */
static void follow_piece(struct search *search, uintptr_t piece) {
    uintptr_t head[2];
    uintptr_t length;
    if (piece % sizeof head != 0 || read_words(piece, head, 2) != 2)
        return;
    struct kept_block *next = find(search, head[1]);
    if (next != NULL && read_words(head[1], &length, 1) == 1 && next->size == (1 + length) * sizeof head)
        mark(search, next);
}

/* One of the loader's variables leads to it. */
static void scan_for_pieces(struct search *search, uintptr_t from, size_t size) {
    uintptr_t word;
    for (uintptr_t at = round_up(from, sizeof word); at + sizeof word <= from + size; at += sizeof word)
        if (read_words(at, &word, 1) == 1 && word >= UNIT_SIZE && find(search, word) == NULL)
            follow_piece(search, word);
}

static bool is_in(uintptr_t address, uintptr_t start, size_t size) {
    return address - start < size;
}

static int look_at_file(struct dl_phdr_info *info, size_t size, void *argument) {
    struct search *search = argument;
    struct locals locals = {info->dlpi_tls_modid, (uintptr_t)info->dlpi_tls_data, 0};
    bool library = is_library(info->dlpi_name);
    bool ours = false;
    (void)size;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_TLS)
            locals.size = part->p_memsz;
        if (part->p_type != PT_LOAD)
            continue;
        ours |= is_in((uintptr_t)kept_mark, start, part->p_memsz);
        if (library && (part->p_flags & PF_W) != 0)
            scan(search, start, part->p_memsz);
        if (is_loader(info->dlpi_name) && (part->p_flags & PF_W) != 0)
            scan_for_pieces(search, start, part->p_memsz);
    }
    if (ours)
        search->ours = locals;
    if (library && search->library_count < LIBRARIES)
        search->libraries[search->library_count++] = locals;
    if (library && locals.start != 0)
        scan(search, locals.start, locals.size);
    return 0;
}

/* ------------------------------------------------------------------------------------------------- threads
 * A thread's table begins with the number of files that it has room for, and has two words for each file from the first
 * on: where the thread's variables are, and the block to free for them. It is known by our own variables, which tell
 * whose they are: that thread must point to the table. */
static bool is_table(const struct search *search, const struct kept_block *block, size_t *files) {
    const size_t pair = 2 * sizeof(uintptr_t);
    uintptr_t self;
    uintptr_t variables;
    uintptr_t table;
    if (search->ours.start == 0 || block->size % pair != 0 || block->size / pair < search->ours.module + 2 ||
        read_words(block->address, files, 1) != 1 || *files != block->size / pair - 2)
        return false;
    THREAD_POINTER(self);
    if (read_words(block->address + pair * (1 + search->ours.module), &variables, 1) != 1 ||
        read_words(self + (variables - search->ours.start) + TABLE_OFFSET, &table, 1) != 1)
        return false;
    return table == block->address + pair;
}

/* What is in other files' variables is the program's. */
static void scan_table(struct search *search, struct kept_block *table, size_t files) {
    uintptr_t entry[2];
    table->is_kept = true;
    for (size_t i = 1; i <= files && read_words(table->address + (1 + i) * sizeof entry, entry, 2) == 2; i++) {
        for (size_t word = 0; word < 2; word++) {
            struct kept_block *variables = find(search, entry[word]);
            if (variables != NULL)
                variables->is_kept = true;
        }
        for (size_t library = 0; library < search->library_count; library++)
            if (search->libraries[library].module == i)
                scan(search, entry[0], search->libraries[library].size);
    }
}

/* ---------------------------------------------------------------------------------------------- all of it */
static void scan_start(struct search *search) {
    for (size_t i = 0; i < early_count; i++) {
        struct kept_block *block = find(search, early[i].address);
        if (block != NULL && block->size == early[i].size)
            mark(search, block);
    }
}

void kept_mark(struct kept_block *blocks, size_t count) {
    struct search search = {.blocks = blocks, .count = count};
    size_t files;
    for (size_t i = 0; i < count; i++)
        blocks[i].is_kept = false;
    mark_stream(&search, stdin);
    mark_stream(&search, stdout);
    mark_stream(&search, stderr);
    dl_iterate_phdr(look_at_file, &search);
    scan_files(&search);
    if (search.library_count == 0)
        scan_start(&search);
    for (size_t i = 0; i < count; i++)
        if (!blocks[i].is_kept && is_table(&search, &blocks[i], &files))
            scan_table(&search, &blocks[i], files);
    scan_pending(&search);
}
