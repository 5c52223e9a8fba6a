#include "stacks.h"
#include "message.h"
#include "os.h"
#include "unwind.h"
#include <dlfcn.h>
#include <link.h>
#include <string.h>

/*
 * Stacks lie one behind the other in chunks, in units of eight bytes; the number of a stack is the number of its first
 * unit, and unit 0 is left out. Equal hashes chain them from one table of buckets, newest first. A stack is written
 * before it is put into its chain and never after.
 */
#define UNIT        ((size_t)8)
#define CHUNK_BYTES ((size_t)1 << 20)
#define CHUNK_UNITS ((uint32_t)(CHUNK_BYTES / UNIT))
#define CHUNKS      (STACKS_BYTES_MAX / CHUNK_BYTES - 1) /* the table takes the room of one */
#define BUCKETS     ((uint32_t)(CHUNK_BYTES / sizeof(uint32_t)))

struct stack {
    uint32_t next; /* in the chain; 0: the last */
    uint16_t tag;  /* of the hash, what the bucket does not tell */
    uint16_t count;
    uintptr_t pcs[]; /* `count` */
};

_Static_assert(sizeof(struct stack) == UNIT && sizeof(uintptr_t) == UNIT, "a stack is whole units");
_Static_assert(STACKS_BYTES_MAX / UNIT <= UINT32_MAX, "units have 32-bit numbers");
_Static_assert((BUCKETS & (BUCKETS - 1)) == 0 && BUCKETS >= STACKS_MAX / 4, "chains of four at the most, or so");

static _Atomic(_Atomic uint32_t *) buckets;   /* BUCKETS numbers of stacks, each the newest of its chain */
SPARSE static _Atomic(char *) chunks[CHUNKS]; /* mapped in order, on demand */
static _Atomic uint32_t next_unit = ATOMIC_VAR_INIT(1);
static _Atomic size_t stacks_kept;
static _Atomic size_t bytes_mapped;
static _Atomic size_t calls_beyond;
static _Atomic size_t calls_refused;

/* -------------------------------------------------------------------------------------------------- memory */
/* Of two threads that map at once, one gives its chunk back. */
static void *keep_one(void *mine, void *theirs, bool is_mine) {
    if (is_mine)
        add_relaxed(&bytes_mapped, CHUNK_BYTES);
    else
        os_unmap_own(mine, CHUNK_BYTES);
    return is_mine ? mine : theirs;
}

static char *chunk_at(uint32_t index) {
    char *chunk = load_acquire(&chunks[index]);
    if (LIKELY(chunk != NULL))
        return chunk;
    char *mine = os_map_own(CHUNK_BYTES);
    if (mine == NULL)
        return NULL;
    bool is_mine = atomic_compare_exchange_strong_explicit(&chunks[index], &chunk, mine, memory_order_acq_rel,
                                                           memory_order_acquire);
    return keep_one(mine, chunk, is_mine);
}

static _Atomic uint32_t *table(void) {
    _Atomic uint32_t *known = load_acquire(&buckets);
    if (LIKELY(known != NULL))
        return known;
    _Atomic uint32_t *mine = os_map_own(CHUNK_BYTES);
    if (mine == NULL)
        return NULL;
    bool is_mine =
        atomic_compare_exchange_strong_explicit(&buckets, &known, mine, memory_order_acq_rel, memory_order_acquire);
    return keep_one((void *)mine, (void *)known, is_mine);
}

static struct stack *stack_of(uint32_t id) {
    return (struct stack *)(load_acquire(&chunks[id / CHUNK_UNITS]) + id % CHUNK_UNITS * UNIT);
}

/* Where a stack of `count` begins if what is below `from` is taken: a stack is in one chunk. */
static uint32_t place_at(uint32_t from, uint32_t count) {
    return from % CHUNK_UNITS + 1 + count <= CHUNK_UNITS ? from : (uint32_t)round_up(from, CHUNK_UNITS);
}

static bool is_full(uint32_t count) {
    return load_relaxed(&stacks_kept) >= STACKS_MAX ||
           place_at(load_relaxed(&next_unit), count) / CHUNK_UNITS >= CHUNKS;
}

/* Room for a stack of `count`; 0: none. The chunk is there before a part of it is taken, so that a kernel that refuses
 * for a while costs nothing for ever. */
static uint32_t take_units(uint32_t count) {
    uint32_t units = 1 + count;
    uint32_t from = load_relaxed(&next_unit);
    uint32_t id;
    do {
        id = place_at(from, count);
        if (id / CHUNK_UNITS >= CHUNKS || chunk_at(id / CHUNK_UNITS) == NULL)
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(&next_unit, &from, id + units, memory_order_relaxed,
                                                    memory_order_relaxed));
    return id;
}

/* ------------------------------------------------------------------------------------------------ recording */
static uint64_t hash(const uintptr_t *pcs, unsigned count) {
    uint64_t value = count;
    for (unsigned i = 0; i < count; i++) {
        value = (value ^ pcs[i]) * UINT64_C(0x9e3779b97f4a7c15); /* 2^64 divided by the golden ratio */
        value ^= value >> 32;
    }
    return value;
}

/* In the chain from `id` up to, not including, `end`. */
static uint32_t find(uint32_t id, uint32_t end, uint16_t tag, const uintptr_t *pcs, unsigned count) {
    while (id != end) {
        const struct stack *stack = stack_of(id);
        if (stack->tag == tag && stack->count == count && memcmp(stack->pcs, pcs, count * sizeof *pcs) == 0)
            return id;
        id = stack->next;
    }
    return 0;
}

static uint32_t add(_Atomic uint32_t *bucket, uint32_t newest, uint16_t tag, const uintptr_t *pcs, unsigned count) {
    uint32_t id = is_full(count) ? 0 : take_units(count);
    if (id == 0) {
        add_relaxed(is_full(count) ? &calls_beyond : &calls_refused, 1);
        return 0;
    }
    struct stack *stack = stack_of(id);
    stack->tag = tag;
    stack->count = (uint16_t)count;
    memcpy(stack->pcs, pcs, count * sizeof *pcs);
    uint32_t searched = newest;
    for (;;) {
        stack->next = newest;
        if (atomic_compare_exchange_weak_explicit(bucket, &newest, id, memory_order_acq_rel, memory_order_acquire))
            break;
        uint32_t same = find(newest, searched, tag, pcs, count);
        if (same != 0) /* another thread has come first; what was taken is lost, once for each such race */
            return same;
        searched = newest;
    }
    add_relaxed(&stacks_kept, 1);
    return id;
}

uint32_t stacks_intern(const uintptr_t *pcs, unsigned count) {
    _Atomic uint32_t *heads = table();
    count = (unsigned)min_size(count, STACKS_DEPTH_MAX);
    if (count == 0)
        return 0;
    if (heads == NULL) {
        add_relaxed(&calls_refused, 1);
        return 0;
    }
    uint64_t value = hash(pcs, count);
    _Atomic uint32_t *bucket = &heads[value % BUCKETS];
    uint16_t tag = (uint16_t)(value >> 48);
    uint32_t newest = load_acquire(bucket);
    uint32_t id = find(newest, 0, tag, pcs, count);
    return id != 0 ? id : add(bucket, newest, tag, pcs, count);
}

uint32_t stacks_record(unsigned depth, const void *frame) {
    uintptr_t pcs[STACKS_DEPTH_MAX];
    return stacks_intern(pcs, (unsigned)unwind_walk(pcs, min_size(depth, STACKS_DEPTH_MAX), frame));
}

unsigned stacks_get(uint32_t id, const uintptr_t **pcs) {
    if (id == 0)
        return 0;
    const struct stack *stack = stack_of(id);
    *pcs = stack->pcs;
    return stack->count;
}

struct stacks_total stacks_total(void) {
    return (struct stacks_total){load_relaxed(&stacks_kept), load_relaxed(&bytes_mapped), load_relaxed(&calls_beyond),
                                 load_relaxed(&calls_refused)};
}

/* ------------------------------------------------------------------------------------------------- printing */
/* From where it is to where it stands in its file. */
static int note_offset(struct dl_phdr_info *info, size_t size, void *address) {
    uintptr_t *at = address;
    (void)size;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && *at - (info->dlpi_addr + part->p_vaddr) < part->p_memsz) {
            *at -= info->dlpi_addr;
            return 1;
        }
    }
    return 0;
}

/* Not dladdr, which does not tell how far the file was moved: addr2line wants that. Only glibc has it, and a static
 * program may lack it: there a call has no name. */
#if defined(__GLIBC__)
extern __typeof__(dladdr1) dladdr1 __attribute__((weak));

static bool find_symbol(uintptr_t address, Dl_info *info, uintptr_t *moved) {
    void *map = NULL;
    if (dladdr1 == NULL || dladdr1((void *)address, info, &map, RTLD_DL_LINKMAP) == 0 || map == NULL)
        return false;
    *moved = ((const struct link_map *)map)->l_addr;
    return true;
}
#else
static bool find_symbol(uintptr_t address, Dl_info *info, uintptr_t *moved) {
    (void)address, (void)info, (void)moved;
    return false;
}
#endif

static void print_call(struct text *text, uintptr_t pc) {
    Dl_info info;
    uintptr_t moved;
    uintptr_t call = pc - 1; /* within the calling instruction */
    if (!find_symbol(call, &info, &moved)) {
        dl_iterate_phdr(note_offset, &call);
        text_add_hex(text, call);
        return;
    }
    if (info.dli_sname != NULL) {
        text_add(text, info.dli_sname);
        text_add(text, "+");
        text_add_hex(text, call - (uintptr_t)info.dli_saddr);
        text_add(text, " (");
    }
    text_add(text, info.dli_fname);
    text_add(text, "+");
    text_add_hex(text, call - moved);
    if (info.dli_sname != NULL)
        text_add(text, ")");
}

void stacks_print(struct text *text, uint32_t id, const char *indent) {
    const uintptr_t *pcs = NULL;
    unsigned count = stacks_get(id, &pcs);
    for (unsigned i = 0; i < count; i++) {
        text_add(text, indent);
        print_call(text, pcs[i]);
        text_add(text, "\n");
        if (text->length > text->capacity / 2 && text->fd >= 0) /* so that other threads' lines come between lines */
            text_flush(text);
    }
}

static void add_missing(struct text *text, const char *indent, size_t calls, const char *why) {
    text_add(text, indent);
    text_add_decimal(text, calls);
    text_add(text, calls == 1 ? " call has no stack, as " : " calls have no stack, as ");
    text_add(text, why);
}

void stacks_print_missing(struct text *text, const char *indent) {
    struct stacks_total total = stacks_total();
    if (total.beyond > 0) {
        add_missing(text, indent, total.beyond, "the depot is full: ");
        text_add_decimal(text, total.stacks);
        text_add(text, " stacks in ");
        text_add_decimal(text, total.bytes);
        text_add(text, " bytes\n");
    }
    if (total.refused > 0)
        add_missing(text, indent, total.refused, "the kernel gave no memory\n");
}

const void *stacks_memory(size_t n, size_t *size) {
    *size = CHUNK_BYTES;
    if (n == 0)
        return load_acquire(&buckets);
    return n <= CHUNKS ? load_acquire(&chunks[n - 1]) : NULL;
}
