#include "unwind.h"
#include "cfi.h"
#include "config.h"
#include "expression.h"
#include "frames.h"
#include "syscall.h"
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <ucontext.h>

#define PROBED     4096         /* what is asked of the kernel at once: no page is smaller */
#define NO_PAGE    1            /* of which none is known yet */
#define RED_ZONE   128          /* below the stack pointer, a function's own all the same */
#define STEPS_MORE 64           /* frames within `from_frame` */
#define RECORD_MAX (1024 * KIB) /* from one frame pointer to the next: beyond, it is a register put to other use */

struct walk {
    uintptr_t registers[CFI_REGISTERS]; /* the frame's; its own pc among them on x86-64 */
    uintptr_t pc;
    bool is_call;             /* pc is where a call returns to; what is known of the frame, is of the call */
    uintptr_t readable;       /* the page of the stack that was found to be, last */
    struct cfi_module module; /* that pc, or one before it, was in */
};

/* --------------------------------------------------------------------------------------------- the memory
 * The kernel looks at the set of signals before it refuses the unknown verb: EINVAL says that it could. That is exact
 * where a remembered /proc/self/maps is not, and one call does for a page of frames. */
static bool is_readable(uintptr_t address) {
    return syscall4(SYS_rt_sigprocmask, -1, (long)round_down(address, PROBED), 0, sizeof(uint64_t)) == -EINVAL;
}

#ifdef CADASTRE_SANITIZED
#define PEEK __attribute__((noinline, no_sanitize("address", "thread")))
#else
#define PEEK
#endif

/* The sanitizers have views of a stack's variables; what lies between them is ours to read as well. */
PEEK static uintptr_t peek(uintptr_t address) {
    return *(const volatile uintptr_t *)address;
}

/* Of the stack of the frame whose stack pointer is `sp`, and its callers; *readable as in struct walk. */
INLINE bool read_stack(uintptr_t sp, uintptr_t *readable, uintptr_t address, uintptr_t *value) {
    if (address % sizeof *value != 0 || address < sp - RED_ZONE)
        return false;
    if (round_down(address, PROBED) != *readable) {
        if (!is_readable(address))
            return false;
        *readable = round_down(address, PROBED);
    }
    *value = peek(address);
    return true;
}

static bool read_word(void *reader, uintptr_t address, uintptr_t *value) {
    struct walk *walk = reader;
    return read_stack(walk->registers[CFI_SP], &walk->readable, address, value);
}

/* ------------------------------------------------------------------------------------------- the machines */
#if defined(__x86_64__)
/* What a caller may rely on, at eight times its number, and where we are. */
INLINE void capture(struct walk *walk) {
    __asm__ volatile("movq %%rbx, 24(%1)\n\tmovq %%rbp, 48(%1)\n\tmovq %%rsp, 56(%1)\n\t"
                     "movq %%r12, 96(%1)\n\tmovq %%r13, 104(%1)\n\tmovq %%r14, 112(%1)\n\tmovq %%r15, 120(%1)\n\t"
                     "leaq 0(%%rip), %0"
                     : "=&r"(walk->pc)
                     : "r"(walk->registers)
                     : "memory");
    walk->registers[16] = walk->pc;
}

static uintptr_t strip_signature(uintptr_t pc) {
    return pc;
}

/* The C library's return from a signal handler has call frame information. */
static bool step_over_signal(struct walk *walk) {
    (void)walk;
    return false;
}
#elif defined(__aarch64__)
INLINE void capture(struct walk *walk) {
    __asm__ volatile("stp x19, x20, [%1, 152]\n\tstp x21, x22, [%1, 168]\n\tstp x23, x24, [%1, 184]\n\t"
                     "stp x25, x26, [%1, 200]\n\tstp x27, x28, [%1, 216]\n\tstp x29, x30, [%1, 232]\n\t"
                     "mov %0, sp\n\tstr %0, [%1, 248]\n\tadr %0, ."
                     : "=&r"(walk->pc)
                     : "r"(walk->registers)
                     : "memory");
}

/* Pointer authentication puts it into the bits that no address has; older machines take xpaclri for a nop. */
static uintptr_t strip_signature(uintptr_t pc) {
    register uintptr_t x30 __asm__("x30") = pc;
    __asm__("hint #7" : "+r"(x30));
    return x30;
}

/* The kernel's return from a signal handler has none since 5.8, and imprecise one before: it is known by its code
 * (mov x8, #__NR_rt_sigreturn; svc #0), behind which what was interrupted lies on the stack. */
static bool step_over_signal(struct walk *walk) {
    const volatile uint32_t *code = (const volatile uint32_t *)walk->pc;
    if (walk->pc % 4 != 0 || !is_readable(walk->pc) || !is_readable(walk->pc + 4) || code[0] != 0xd2801168 ||
        code[1] != 0xd4000001)
        return false;
    const uintptr_t context = walk->registers[CFI_SP] + sizeof(siginfo_t);
    uintptr_t interrupted[CFI_REGISTERS];
    for (unsigned i = 0; i < CFI_REGISTERS; i++) /* x0 to x30, sp */
        if (!read_word(walk, context + offsetof(ucontext_t, uc_mcontext.regs) + i * 8, &interrupted[i]))
            return false;
    if (!read_word(walk, context + offsetof(ucontext_t, uc_mcontext.pc), &walk->pc))
        return false;
    for (unsigned i = 0; i < CFI_REGISTERS; i++)
        walk->registers[i] = interrupted[i];
    walk->is_call = false;
    return true;
}
#endif

/* ----------------------------------------------------------------------------- by call frame information */
#ifdef DLFO_EH_SEGMENT_TYPE
/* In a static program the C library calls malloc before it has made ready what answers here: only then there is a
 * constructor's word that it has. */
static bool is_ready;

/* And what it finds there is the code alone, without the tables behind it: so the whole file is noted. */
static struct file {
    uintptr_t begin;
    uintptr_t end;
} static_file;

static bool is_within(uintptr_t address, uintptr_t begin, uintptr_t end) {
    return address - begin < end - begin;
}

static void note_ready(void);

static int note_file(struct dl_phdr_info *info, size_t size, void *unused) {
    struct file file = {UINTPTR_MAX, 0};
    (void)size;
    (void)unused;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + part->p_vaddr;
        if (part->p_type != PT_LOAD)
            continue;
        file.begin = min_size(file.begin, begin);
        file.end = max_size(file.end, begin + part->p_memsz);
    }
    if (is_within((uintptr_t)note_ready, file.begin, file.end))
        static_file = file;
    return 0;
}

__attribute__((constructor(101))) static void note_ready(void) {
    struct dl_find_object found;
    if (_dl_find_object((void *)note_ready, &found) == 0 && found.dlfo_eh_frame != NULL &&
        !is_within((uintptr_t)found.dlfo_eh_frame, (uintptr_t)found.dlfo_map_start, (uintptr_t)found.dlfo_map_end))
        dl_iterate_phdr(note_file, NULL);
    is_ready = true;
}

static bool can_find_modules(void) {
    return is_ready;
}

static bool find_module(struct cfi_module *module, uintptr_t pc) {
    struct dl_find_object found;
    if (is_within(pc, (uintptr_t)module->begin, (uintptr_t)module->end))
        return true;
    if (_dl_find_object((void *)pc, &found) != 0 || found.dlfo_eh_frame == NULL)
        return false;
    bool is_static = is_within(pc, static_file.begin, static_file.end);
    module->begin = is_static ? (const void *)static_file.begin : found.dlfo_map_start;
    module->end = is_static ? (const void *)static_file.end : found.dlfo_map_end;
    module->header = found.dlfo_eh_frame;
    return true;
}
/* Whether what the program started with holds the code, which the loader never unmaps: in its list that comes first,
 * itself among it, and does not change. (It may go on behind itself, where all else is.) */
static bool is_lasting(uintptr_t pc) {
    struct dl_find_object found, loader;
    if (_dl_find_object((void *)pc, &found) != 0 || _dl_find_object(&_r_debug, &loader) != 0)
        return false;
    const struct link_map *map = _r_debug.r_map;
    while (map != NULL && map != found.dlfo_link_map && map != loader.dlfo_link_map)
        map = map->l_next;
    return map != NULL && map == found.dlfo_link_map;
}
#else
static bool can_find_modules(void) {
    return false;
}

static bool is_lasting(uintptr_t pc) {
    (void)pc;
    return false;
}

static bool find_module(struct cfi_module *module, uintptr_t pc) {
    (void)module;
    (void)pc;
    return false;
}
#endif

static bool evaluate(struct walk *walk, const struct cfi_rule *rule, uintptr_t *value) {
    const struct expression_context context = {walk->registers, CFI_REGISTERS, read_word, walk};
    return expression_evaluate(walk->module.begin + rule->value, walk->module.end, &context, value);
}

static bool apply_rule(struct walk *walk, const struct cfi_rule *rule, uintptr_t cfa, uintptr_t *value) {
    uintptr_t address = cfa;
    switch ((enum cfi_kind)rule->kind) {
    case CFI_SAVED:
        return read_word(walk, cfa + (uintptr_t)(intptr_t)rule->value, value);
    case CFI_OFFSET:
        *value = cfa + (uintptr_t)(intptr_t)rule->value;
        return true;
    case CFI_REGISTER:
        *value = walk->registers[rule->value];
        return true;
    case CFI_SAVED_AT:
        return evaluate(walk, rule, &address) && read_word(walk, address, value);
    case CFI_EXPRESSION:
        *value = cfa;
        return evaluate(walk, rule, value);
    case CFI_SAME:
    case CFI_UNDEFINED:
        return true;
    }
    return false;
}

/* From a frame to its caller's; false: there is none, or no way to tell. */
static bool step(struct walk *walk) {
    struct cfi_row row;
    uintptr_t pc = walk->pc - walk->is_call;
    uintptr_t sp = walk->registers[CFI_SP];
    if (!find_module(&walk->module, pc) || !cfi_find(&walk->module, pc, &row))
        return step_over_signal(walk);
    if (row.is_signal_frame && step_over_signal(walk))
        return true;
    if (row.rules[row.return_register].kind == CFI_UNDEFINED)
        return false;
    uintptr_t cfa = 0;
    if (!apply_rule(walk, &row.cfa, 0, &cfa))
        return false;
    cfa += (uintptr_t)(intptr_t)row.cfa_offset;

    uintptr_t values[CFI_REGISTERS]; /* all read before one is changed: rules are in terms of the frame's own */
    for (uint32_t ruled = row.ruled; ruled != 0; ruled &= ruled - 1) {
        unsigned reg = (unsigned)__builtin_ctz(ruled);
        values[reg] = walk->registers[reg];
        if (!apply_rule(walk, &row.rules[reg], cfa, &values[reg]))
            return false;
    }
    walk->registers[CFI_SP] = cfa; /* unless it has a rule, as in what a signal interrupted */
    for (uint32_t ruled = row.ruled; ruled != 0; ruled &= ruled - 1)
        walk->registers[__builtin_ctz(ruled)] = values[__builtin_ctz(ruled)];
    walk->pc = strip_signature(walk->registers[row.return_register]);

    /* Callers lie above, but for what was interrupted, on whatever stack that was; and an interrupted leaf may have
     * nothing on the stack. */
    bool is_above = walk->registers[CFI_SP] > sp || (walk->registers[CFI_SP] == sp && !walk->is_call);
    bool goes_on = walk->pc != 0 && (row.is_signal_frame || is_above);
    walk->is_call = !row.is_signal_frame;
    return goes_on;
}

static NOINLINE size_t walk_any(uintptr_t *pcs, size_t capacity, const void *from_frame) {
    struct walk walk = {.readable = NO_PAGE};
    size_t count = 0;
    capture(&walk);
    bool has_come = false;
    for (size_t steps = 0; count < capacity && steps < capacity + STEPS_MORE && step(&walk); steps++) {
        has_come |= walk.registers[CFI_SP] > (uintptr_t)from_frame;
        if (has_come)
            pcs[count++] = walk.pc;
    }
    if (!has_come) /* no tables even of our own code, as in static programs that are no PIE */
        return unwind_walk_frame_pointers(pcs, capacity, from_frame);
    return count;
}

/* ----------------------------------------------------------------------------------- by what is remembered
 * Most walks lead through nothing but simple frames, most of which were met before: there three registers say all. */
struct brief_walk {
    uintptr_t pc;
    uintptr_t sp;
    uintptr_t fp;
    uintptr_t readable; /* as in struct walk, and the next */
    struct cfi_module module;
};

enum outcome { WENT_ON, ENDED, UNKNOWN /* three are not enough */ };

/* What is not remembered is found, and remembered if it is simple. */
static NOINLINE frame_word find_frame(struct cfi_module *module, uintptr_t pc) {
    struct cfi_row row;
    module->common.address = 0;
    return cfi_find(module, pc, &row) ? frames_note(module, pc, &row, is_lasting(pc)) : 0;
}

static frame_word find_frame_of(struct cfi_module *module, uintptr_t pc) {
    frame_word frame = frames_find_lasting(pc);
    if (LIKELY(frame != 0))
        return frame;
    if (!find_module(module, pc))
        return 0;
    frame = frames_find(module, pc);
    return frame != 0 ? frame : find_frame(module, pc);
}

/* As step(), of a frame that made a call. */
INLINE enum outcome step_briefly(struct brief_walk *walk) {
    uintptr_t sp = walk->sp;
    frame_word frame = find_frame_of(&walk->module, walk->pc - 1);
    if (frame == 0)
        return UNKNOWN;
    if (frame & FRAME_IS_LAST)
        return ENDED;
    uintptr_t cfa = ((frame & FRAME_BY_POINTER) != 0 ? walk->fp : sp) + frame_part(frame, FRAME_CFA_SHIFT);
    if ((frame & FRAME_SAVES_POINTER) != 0 &&
        !read_stack(sp, &walk->readable, cfa - frame_part(frame, FRAME_POINTER_SHIFT), &walk->fp))
        return ENDED;
    if (!read_stack(sp, &walk->readable, cfa - frame_part(frame, FRAME_RETURN_SHIFT), &walk->pc))
        return ENDED;
    walk->pc = strip_signature(walk->pc);
    walk->sp = cfa;
    return walk->pc != 0 && cfa > sp ? WENT_ON : ENDED;
}

#if defined(__x86_64__)
/* A function that asks for its frame's address has it in its frame pointer, under the return address. */
INLINE bool begin_briefly(struct brief_walk *walk, const void *from_frame) {
    const uintptr_t frame = (uintptr_t)from_frame;
    walk->sp = frame + 2 * sizeof frame;
    walk->readable = round_down(frame, PROBED); /* it is of a caller, and so in use */
    return read_stack(frame, &walk->readable, frame, &walk->fp) &&
           read_stack(frame, &walk->readable, frame + sizeof frame, &walk->pc) && walk->pc != 0;
}
#elif defined(__aarch64__)
/* The record that a frame's address points to is anywhere in the frame: so from here, through our own. */
INLINE bool begin_briefly(struct brief_walk *walk, const void *from_frame) {
    (void)from_frame;
    __asm__ volatile("mov %0, sp\n\tmov %1, x29\n\tadr %2, ." : "=&r"(walk->sp), "=&r"(walk->fp), "=&r"(walk->pc));
    walk->pc++; /* as if it had called: it is the instruction's own row that holds */
    walk->readable = round_down(walk->sp, PROBED);
    return true;
}
#endif

/* *count is right if it is true; false: a frame on the way is not simple. */
static NOINLINE bool walk_briefly(uintptr_t *pcs, size_t capacity, const void *from_frame, size_t *count) {
    struct brief_walk walk; /* for a call as frequent as this one it is long to be zeroed as a whole */
    size_t steps = 0;
    enum outcome outcome = WENT_ON;
    walk.module.begin = walk.module.end = NULL;
    *count = 0;
    if (!begin_briefly(&walk, from_frame))
        return false;
    for (; outcome == WENT_ON && *count < capacity && steps < capacity + STEPS_MORE; steps++) {
        if (walk.sp > (uintptr_t)from_frame)
            pcs[(*count)++] = walk.pc;
        if (*count < capacity)
            outcome = step_briefly(&walk);
    }
    return outcome != UNKNOWN && *count > 0;
}

NOINLINE size_t unwind_walk(uintptr_t *pcs, size_t capacity, const void *from_frame) {
    size_t count;
    if (from_frame == NULL)
        from_frame = __builtin_frame_address(0);
    if (!can_find_modules())
        return unwind_walk_frame_pointers(pcs, capacity, from_frame);
    if (capacity > 0 && walk_briefly(pcs, capacity, from_frame, &count))
        return count;
    return walk_any(pcs, capacity, from_frame);
}

/* --------------------------------------------------------------------------------------- by frame pointers
 * On both machines a frame pointer points at the caller's, which the return address follows. */
size_t unwind_walk_frame_pointers(uintptr_t *pcs, size_t capacity, const void *from_frame) {
    struct walk walk = {.readable = NO_PAGE};
    size_t count = 0;
    uintptr_t frame = (uintptr_t)from_frame;
    uintptr_t next;
    walk.registers[CFI_SP] = frame + RED_ZONE;
    while (count < capacity && read_word(&walk, frame, &next) && read_word(&walk, frame + sizeof next, &walk.pc) &&
           strip_signature(walk.pc) != 0) {
        pcs[count++] = strip_signature(walk.pc);
        if (next == frame || next - frame > RECORD_MAX) /* which all those below are */
            break;
        frame = next;
    }
    return count;
}
