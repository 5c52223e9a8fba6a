/*
 * Walking the stack, with the C library's backtrace() for a model; and reading call frame information that is broken.
 * Without _dl_find_object there is nothing but frame pointers, and only those are tested.
 */
#include "unwind.h"
#include "cfi.h"
#include "expression.h"
#include "frames.h"
#include "tap.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define DEEPEST 200
#define LEAST   __attribute__((noipa, optimize("O2,omit-frame-pointer")))
#define KEPT    __attribute__((noipa, optimize("O1,no-omit-frame-pointer,no-optimize-sibling-calls")))

static uint64_t random_state = 88172645463325252;
static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* ------------------------------------------------------------------------------------- beside backtrace() */
struct outcome {
    int depth;      /* what backtrace() found */
    bool agrees;    /* with it, but for the address in the function that called both */
    bool from_self; /* from the caller of the function that called both, where a frame was given */
};

/* backtrace(), without the frame of a sanitizer's own around it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define AROUND 1
#else
#define AROUND 0
#endif

NOINLINE static struct outcome compare(void) {
    static int told;
    uintptr_t ours[DEEPEST], from[DEEPEST];
    void *all[DEEPEST];
    void **model = all + AROUND;
    int depth = backtrace(all, DEEPEST) - AROUND;
    size_t count = unwind_walk(ours, DEEPEST, NULL);
    size_t fewer = unwind_walk(from, DEEPEST, __builtin_frame_address(0));
    bool agrees = count == (size_t)depth;
    for (int i = 1; i < depth && agrees; i++)
        agrees = ours[i] == (uintptr_t)model[i];
    bool from_self = fewer + 1 == count && memcmp(from, ours + 1, fewer * sizeof *from) == 0;
    for (int i = 0; i < depth && !agrees && told < 100; i++, told++)
        diag("%d of %zu: backtrace %p, ours %p", i, count, model[i], i < (int)count ? (void *)ours[i] : NULL);
    return (struct outcome){depth, agrees, from_self};
}

static struct outcome outcome;

KEPT static void recurse(int depth, void (*then)(void)) {
    if (depth > 0)
        recurse(depth - 1, then);
    else
        then();
    __asm__ volatile("");
}

static void note(void) {
    outcome = compare();
}

static int compare_ints(const void *a, const void *b) {
    note();
    return *(const int *)a - *(const int *)b;
}

LEAST static int within_realigned(int n, void (*then)(void)) {
    int aligned[16] __attribute__((aligned(128)));
    char *room = __builtin_alloca((size_t)n);
    for (int i = 0; i < n; i++)
        room[i] = (char)(aligned[i % 16] = i);
    __asm__ volatile("" : : "r"(room), "r"(aligned) : "memory");
    then();
    return aligned[n % 16] + room[n / 2];
}

LEAST static long within_many_registers(long a, long b, long c, long d, void (*then)(void)) {
    long e = a * b, f = b * c, g = c * d, h = d * a;
    __asm__ volatile("" : "+r"(e), "+r"(f), "+r"(g), "+r"(h));
    then();
    then();
    return e + f + g + h + within_realigned((int)(a & 63) + 1, then);
}

static void many_registers(void) {
    within_many_registers(1, 2, 3, 4, note);
}

static void expect(const char *where, int least) {
    ok(outcome.agrees && outcome.depth >= least, "%s: as backtrace(), %d frames", where, outcome.depth);
    ok(outcome.from_self, "%s: from a given frame on", where);
    outcome = (struct outcome){0};
}

static void *in_thread(void *unused) {
    recurse(5, many_registers);
    return unused;
}

static void sort(void) {
    int numbers[3] = {3, 1, 2};
    qsort(numbers, 3, sizeof *numbers, compare_ints);
}

static void test_calls(void) {
    recurse(100, note);
    expect("recursion", 100);
    recurse(3, sort);
    expect("a callback of the C library's", 6);
    many_registers();
    expect("frames without frame pointer, realigned, of variable size", 4);
    pthread_t thread;
    pthread_create(&thread, NULL, in_thread, NULL);
    pthread_join(thread, NULL);
    expect("a thread", 8);

    uintptr_t pcs[4] = {0, 0, 0, 7};
    ok(unwind_walk(pcs, 3, NULL) == 3 && pcs[2] != 0 && pcs[3] == 7, "no more than there is room for");
    ok(unwind_walk(pcs, 0, NULL) == 0, "nor anything without room");
}

/* ------------------------------------------------------------------------------------------------ signals */
static sigjmp_buf after_trap;

static void on_signal(int signal) {
    note();
    if (signal == SIGILL || signal == SIGTRAP)
        siglongjmp(after_trap, 1);
}

/* Its first instruction is interrupted: the one before is another function's. */
LEAST static void trap_at_once(void) {
    __builtin_trap();
}

/* And where its last instruction calls: what follows is another function's. */
__attribute__((noipa)) _Noreturn static void note_and_leave(void) {
    note();
    siglongjmp(after_trap, 1);
}

LEAST __attribute__((no_sanitize("address"))) static void end_in_call(void) {
    char room[200];
    __asm__ volatile("" : : "r"(room) : "memory");
    note_and_leave();
}

static void raise_signal(void) {
    raise(SIGUSR1);
}

static void handle(int signal, int flags) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}

/* Interrupted anywhere: also amid prologues, epilogues and the C library. */
static _Atomic int samples, samples_apart;

static void on_timer(int signal) {
    (void)signal;
    samples_apart += !compare().agrees;
    samples++;
}

static void test_samples(void) {
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    struct itimerval each = {{0, 1000}, {0, 1000}}, never = {0};
    char buffer[64];
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &each, NULL);
    for (int i = 0; i < 2000000 && samples < 300; i++) {
        snprintf(buffer, sizeof buffer, "%d %g", i, i * 0.1);
        within_many_registers(i, 3, strlen(buffer), 5, raise_signal);
    }
    setitimer(ITIMER_PROF, &never, NULL);
    ok(samples > 0 && samples_apart == 0, "interrupted at any instruction: as backtrace(), %d samples", samples);
}

static void test_signals(void) {
    static char below[64 * 1024];
    char above[64 * 1024];
    handle(SIGUSR1, 0);
    recurse(3, raise_signal);
    expect("in a signal handler", 8);

    handle(SIGILL, 0);
    handle(SIGTRAP, 0);
    if (sigsetjmp(after_trap, 1) == 0)
        recurse(3, trap_at_once);
    expect("at the first instruction of a leaf", 7);
    if (sigsetjmp(after_trap, 1) == 0)
        recurse(3, end_in_call);
    expect("in a call that does not return", 7);

    handle(SIGUSR1, SA_ONSTACK);
    sigaltstack(&(stack_t){.ss_sp = below, .ss_size = sizeof below}, NULL);
    recurse(3, raise_signal);
    expect("on an alternate stack below", 8);
    sigaltstack(&(stack_t){.ss_sp = above, .ss_size = sizeof above}, NULL);
    recurse(3, raise_signal);
    expect("on an alternate stack above", 8);
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);

    signal(SIGUSR1, SIG_IGN);
    test_samples();
}

/* ------------------------------------------------------------------------------------------ broken stacks */
#define STACK_BYTES (64 * 1024)
static char *other_stack; /* a guard page behind it */
static uintptr_t walked[DEEPEST];
static size_t most_walked;
static sigjmp_buf after_smash;

/* Half of what is above the frame, or above a caller's, becomes junk: so there is no return, and no variable on the
 * stack. */
__attribute__((noinline, no_sanitize("address"))) static void smash_and_walk(void) {
    static uintptr_t *word;
    static size_t count;
    word = (uintptr_t *)__builtin_frame_address(0) + random_next() % 100;
    for (; word < (uintptr_t *)(other_stack + STACK_BYTES); word++) {
        switch (random_next() % 8) {
        case 0:
            *word = random_next();
            break;
        case 1:
            *word = (uintptr_t)other_stack + random_next() % (2 * STACK_BYTES);
            break;
        case 2: /* code, or what lies beside it */
            *word = (uintptr_t)(random_next() % 2 ? (void *)test_signals : (void *)qsort) + random_next() % 4096;
            break;
        case 3:
            *word = (uintptr_t)word + random_next() % 256 / 8 * 8;
            break;
        case 4:
            *word = 0;
            break;
        default: /* as it was */
            break;
        }
    }
    count = unwind_walk(walked, DEEPEST, NULL);
    most_walked = count > most_walked ? count : most_walked;
    siglongjmp(after_smash, 1);
}

static void on_broken_stack(int signal) {
    (void)signal;
    recurse((int)(random_next() % 30), smash_and_walk);
}

static void test_broken_stacks(void) {
    other_stack = mmap(NULL, STACK_BYTES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(other_stack + STACK_BYTES, 4096, PROT_NONE);
    sigaltstack(&(stack_t){.ss_sp = other_stack, .ss_size = STACK_BYTES}, NULL);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_broken_stack, .sa_flags = SA_ONSTACK}, NULL);
    for (volatile int i = 0; i < 3000; i++)
        if (sigsetjmp(after_smash, 1) == 0)
            raise(SIGUSR1);
    ok(most_walked > 30, "stacks full of junk are walked without a fault, to %zu frames", most_walked);
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
}

/* ------------------------------------------------------------------------------------------ frame pointers */
static size_t same_pointers;

NOINLINE static void follow_pointers(void) {
    uintptr_t ours[20];
    void *all[21 + AROUND];
    void **model = all + AROUND;
    int depth = backtrace(all, 21 + AROUND) - AROUND;
    size_t count = unwind_walk_frame_pointers(ours, 20, __builtin_frame_address(0));
    while (same_pointers < count && (int)same_pointers + 1 < depth &&
           ours[same_pointers] == (uintptr_t)model[same_pointers + 1])
        same_pointers++;
}

static void test_frame_pointers(void) {
    uintptr_t pcs[8];
    uintptr_t *page = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    recurse(30, follow_pointers);
    ok(same_pointers == 20, "frame pointers lead to the same %zu addresses", same_pointers);

    page[0] = (uintptr_t)&page[2], page[1] = 11, page[2] = (uintptr_t)&page[4], page[3] = 12;
    page[4] = (uintptr_t)&page[2], page[5] = 13;
    ok(unwind_walk_frame_pointers(pcs, 8, page) == 3 && pcs[2] == 13, "frame pointers that go back end the walk");
    page[4] = (uintptr_t)&page[4];
    ok(unwind_walk_frame_pointers(pcs, 8, page) == 3, "and those that stay");
    page[4] = (uintptr_t)page + 4096 + 1;
    ok(unwind_walk_frame_pointers(pcs, 8, page) == 3, "and those that are not aligned");
    page[4] = (uintptr_t)page + 4096;
    page[512] = (uintptr_t)&page[514], page[513] = 14;
    ok(unwind_walk_frame_pointers(pcs, 8, page) == 4, "they are followed to the next page");
    page[514] = page[515] = 0;
    mprotect(page + 512, 4096, PROT_NONE);
    ok(unwind_walk_frame_pointers(pcs, 8, page) == 3, "unless that cannot be read");
    page[511] = (uintptr_t)&page[512];
    ok(unwind_walk_frame_pointers(pcs, 8, &page[511]) == 0, "nor is half a record");
    ok(unwind_walk_frame_pointers(pcs, 8, (void *)8) == 0, "nor what was never mapped");
    munmap(page, 2 * 4096);
}

/* ------------------------------------------------------------------------------------- reading information */
/* A module of one function, whose instructions are to be filled in. */
#define SPACE 40
static struct {
    struct {
        uint8_t encodings[4];
        int32_t to_frames;
        uint32_t count;
        int32_t function, entry;
    } header;
    struct {
        uint32_t length, id;
        uint8_t version, letters[3], code_align, data_align, return_register, augmentation, encoding;
        uint8_t instructions[11];
    } common;
    struct {
        uint32_t length, to_common;
        int32_t function;
        uint32_t size;
        uint8_t augmentation, instructions[SPACE + 3];
    } function;
} small;
#define RETURN (CFI_REGISTERS == 17 ? 16 : 30)

static struct cfi_module small_module(void) {
    struct cfi_module module = {(uint8_t *)&small, (uint8_t *)(&small + 1), (uint8_t *)&small, NULL, 0, {0}};
    uint8_t initial[] = {0x0c, CFI_SP, 8, 0x80 | RETURN, 1}; /* the CFA is sp + 8, the return address there at -8 */
    memset(&small, 0, sizeof small);
    memcpy(small.header.encodings, (uint8_t[]){1, 0x1b, 0x03, 0x3b}, 4);
    small.header.count = 1;
    small.header.function = 1000;
    small.header.entry = (int32_t)((char *)&small.function - (char *)&small);
    small.common.length = sizeof small.common - 4;
    small.common.version = 1;
    memcpy(small.common.letters, "zR", 3);
    small.common.code_align = 1;
    small.common.data_align = 0x78; /* -8 */
    small.common.return_register = RETURN;
    small.common.augmentation = 1;
    small.common.encoding = 0x1b;
    memcpy(small.common.instructions, initial, sizeof initial);
    small.function.length = sizeof small.function - 4;
    small.function.to_common = (uint32_t)((char *)&small.function.to_common - (char *)&small.common);
    small.function.function = (int32_t)((char *)&small + 1000 - (char *)&small.function.function);
    small.function.size = 100;
    return module;
}

static bool run_small(const uint8_t *instructions, size_t count, unsigned pc, struct cfi_row *row) {
    struct cfi_module module = small_module();
    memcpy(small.function.instructions, instructions, count);
    return cfi_find(&module, (uintptr_t)&small + 1000 + pc, row);
}

#define RUN(pc, row, ...) run_small((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), pc, row)

static bool cfa_is(const struct cfi_row *row, int reg, int offset) {
    return row->cfa.kind == CFI_REGISTER && row->cfa.value == reg && row->cfa_offset == offset;
}

static bool rule_is(const struct cfi_row *row, unsigned reg, unsigned kind, int value) {
    return row->rules[reg].kind == kind && row->rules[reg].value == value &&
           (row->ruled >> reg & 1) == (kind != CFI_SAME);
}

/* ---------------------------------------------------------------------------------- remembering simple frames */
static frame_word find_and_note(struct cfi_module *module, uintptr_t pc, bool lasting) {
    struct cfi_row row;
    return cfi_find(module, pc, &row) ? frames_note(module, pc, &row, lasting) : 0;
}

/* What stands at pc when the function has these instructions, and another the module's. */
static frame_word noted(const uint8_t *instructions, size_t count) {
    struct cfi_module module = small_module();
    memcpy(small.function.instructions, instructions, count);
    return find_and_note(&module, (uintptr_t)&small + 1000, false);
}

#define NOTED(...) noted((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_simple_frames(void) {
    frame_word plain = NOTED(0x0e, 32);
    ok(plain != 0 && frame_part(plain, FRAME_CFA_SHIFT) == 32 && frame_part(plain, FRAME_RETURN_SHIFT) == 8 &&
           (plain & (FRAME_BY_POINTER | FRAME_SAVES_POINTER | FRAME_IS_LAST)) == 0,
       "a frame of 32 bytes is simple");
    frame_word saves = NOTED(0x80 | CFI_FP, 2, 0x83, 3);
    ok((saves & FRAME_SAVES_POINTER) != 0 && frame_part(saves, FRAME_POINTER_SHIFT) == 16,
       "so is one that saves the frame pointer, and others");
    ok((NOTED(0x0c, CFI_FP, 16) & FRAME_BY_POINTER) != 0, "and one that goes by it");
    ok((NOTED(0x07, RETURN) & FRAME_IS_LAST) != 0, "and the last one");
    ok(!NOTED(0x0c, 3, 16), "a CFA by another register is not");
    ok(!NOTED(0x0f, 1, 0x50), "nor by an expression");
    ok(!NOTED(0x09, RETURN, 3) && !NOTED(0x08, RETURN), "nor a return address that is not on the stack");
    ok(!NOTED(0x14, CFI_FP, 2), "nor a frame pointer that is computed");
    ok(!NOTED(0x80 | CFI_SP, 2), "nor a stack pointer that is saved");
    ok(!NOTED(0x0e, 12), "nor a frame of half words");
    ok(!NOTED(0x0e, 0x80, 0x80, 0x40), "nor a huge one");
}

/* A library may be unloaded, and another loaded where it was. */
static void test_remembering(void) {
    struct cfi_module module = small_module();
    const uintptr_t pc = (uintptr_t)&small + 1000;
    small.function.instructions[0] = 0x0e, small.function.instructions[1] = 48;
    frame_word frame = find_and_note(&module, pc, false);
    ok(frame != 0 && frames_find(&module, pc) == frame, "what was found is remembered");
    ok(frames_find(&module, pc + 1) == 0 && frames_find_lasting(pc) == 0, "of this address, and this module");
    struct cfi_module moved = module, shorter = module;
    moved.header += 4;
    shorter.end = (uint8_t *)&small.function + 8;
    ok(frames_find(&moved, pc) == 0 && frames_find(&shorter, pc) == 0, "not of another at the same place");
    size_t wrong = 0;
    for (size_t i = 0; i < module.entry_used; i++) {
        ((uint8_t *)&small.function)[i] ^= 1;
        wrong += frames_find(&module, pc) != 0;
        ((uint8_t *)&small.function)[i] ^= 1;
    }
    ok(wrong == 0 && module.entry_used > 18, "nor when one of its %zu bytes is another", module.entry_used);
    ok(frames_find(&module, pc) == frame, "and again when they are the same");
    ok(find_and_note(&module, pc, true) == frame && frames_find_lasting(pc) == frame,
       "what lasts is found by its address");
}

/* Two frames of one address, noted in turn: never a mixture. */
static _Atomic bool stop_noting;

static void *note_others(void *module) {
    while (!atomic_load(&stop_noting))
        for (unsigned i = 0; i < 4; i++) {
            struct cfi_row row = {
                .cfa = {CFI_SP, CFI_REGISTER}, .cfa_offset = 16 + 16 * (int)i, .return_register = RETURN};
            row.rules[RETURN] = (struct cfi_rule){-8 - 8 * (int)i, CFI_SAVED};
            frames_note(module, (uintptr_t)&small + 1000, &row, i % 2 == 0);
        }
    return module;
}

static void test_races(void) {
    struct cfi_module module = small_module();
    const uintptr_t pc = (uintptr_t)&small + 1000;
    pthread_t threads[2];
    size_t found = 0, wrong = 0;
    find_and_note(&module, pc, false);
    for (size_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, note_others, &module);
    for (size_t i = 0; i < 300000; i++) {
        frame_word frame = i % 2 == 0 ? frames_find(&module, pc) : frames_find_lasting(pc);
        uintptr_t cfa = frame_part(frame, FRAME_CFA_SHIFT), below = frame_part(frame, FRAME_RETURN_SHIFT);
        found += frame != 0;
        wrong += frame != 0 && !(cfa == 2 * below && cfa >= 16 && cfa <= 64) && !(cfa == 8 && below == 8);
        wrong += frame != 0 && cfa != 8 && (cfa / 16 % 2 == 1) != (i % 2 == 1);
    }
    atomic_store(&stop_noting, true);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ok(found > 0 && wrong == 0, "of %zu found while others write none is mixed (%zu are)", found, wrong);
}

static void test_instructions(void) {
    struct cfi_row row;
    ok(RUN(0, &row, 0) && cfa_is(&row, CFI_SP, 8) && rule_is(&row, RETURN, CFI_SAVED, -8), "the initial rules");
    ok(!RUN(100, &row, 0), "none behind the function");
    ok(RUN(0, &row, 0x41, 0x0e, 16) && cfa_is(&row, CFI_SP, 8), "advance_loc: not yet");
    ok(RUN(1, &row, 0x41, 0x0e, 16) && cfa_is(&row, CFI_SP, 16), "advance_loc: now; def_cfa_offset");
    ok(RUN(9, &row, 0x02, 9, 0x0e, 16, 0x03, 1, 0, 0x0e, 24) && cfa_is(&row, CFI_SP, 16), "advance_loc1, and 2");
    ok(RUN(9, &row, 0x04, 9, 0, 0, 0, 0x0d, 3) && cfa_is(&row, 3, 8), "advance_loc4, def_cfa_register");
    ok(RUN(0, &row, 0x12, CFI_FP, 0x7e) && cfa_is(&row, CFI_FP, 16), "def_cfa_sf");
    ok(RUN(0, &row, 0x13, 0x7d) && cfa_is(&row, CFI_SP, 24), "def_cfa_offset_sf");
    ok(RUN(0, &row, 0x0c, 3, 0x80, 0x01) && cfa_is(&row, 3, 128), "def_cfa, of two bytes");
    ok(RUN(0, &row, 0x83, 3) && rule_is(&row, 3, CFI_SAVED, -24), "offset");
    ok(RUN(0, &row, 0x05, 3, 3, 0x11, 5, 0x7f) && rule_is(&row, 3, CFI_SAVED, -24) && rule_is(&row, 5, CFI_SAVED, 8),
       "offset_extended, and _sf");
    ok(RUN(0, &row, 0x14, 3, 2, 0x15, 5, 0x7f) && rule_is(&row, 3, CFI_OFFSET, -16) && rule_is(&row, 5, CFI_OFFSET, 8),
       "val_offset, and _sf");
    ok(RUN(0, &row, 0x09, 3, 5) && rule_is(&row, 3, CFI_REGISTER, 5), "register");
    ok(RUN(0, &row, 0x83, 3, 0xc3, 0x06, RETURN) && rule_is(&row, 3, CFI_SAME, 0), "restore, restore_extended");
    ok(RUN(0, &row, 0x83, 3, 0x08, 3, 0x07, RETURN) && rule_is(&row, 3, CFI_SAME, 0) &&
           rule_is(&row, RETURN, CFI_UNDEFINED, 0),
       "same_value, undefined");
    ok(RUN(0, &row, 0x0a, 0x83, 3, 0x0e, 32, 0x0b) && cfa_is(&row, CFI_SP, 8) && rule_is(&row, 3, CFI_SAME, 0),
       "remember_state, restore_state");
    ok(RUN(0, &row, 0x2e, 99, 0x2d, 0x83, 3) && rule_is(&row, 3, CFI_SAVED, -24), "GNU_args_size, negate_ra_state");
    ok(RUN(0, &row, 0x05, 72, 3, 0x0e, 16) && cfa_is(&row, CFI_SP, 16), "registers of no concern are passed over");
    ok(!RUN(0, &row, 0x0b), "restore_state without remember_state is refused");
    ok(!RUN(0, &row, 0x0a, 0x0a, 0x0a, 0x0a, 0x0a), "and remembering without end");
    ok(!RUN(0, &row, 0x0d, 99) && !RUN(0, &row, 0x09, 3, 99), "and registers there are none of");
    ok(!RUN(0, &row, 0x3f) && !RUN(0, &row, 0x2f), "and unknown instructions");
    ok(!RUN(0, &row, 0x0f, 0xff, 0x7f), "and an expression longer than what is left");
    ok(!RUN(0, &row, 0x0e, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1),
       "and numbers longer than a word");
}

static bool read_fake(void *reader, uintptr_t address, uintptr_t *value) {
    (void)reader;
    *value = address + 1;
    return address % 8 == 0;
}

static bool evaluate(const uint8_t *block, size_t size, uintptr_t *result) {
    uintptr_t registers[CFI_REGISTERS];
    for (unsigned i = 0; i < CFI_REGISTERS; i++)
        registers[i] = 0x1000 * i;
    const struct expression_context fake = {registers, CFI_REGISTERS, read_fake, NULL};
    return expression_evaluate(block, block + size, &fake, result);
}

#define GIVES(value, ...)                                                                                              \
    (result = 5, evaluate((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), &result) &&          \
                     result == (uintptr_t)(value))

static void test_expressions(void) {
    uintptr_t result;
    ok(GIVES(5, 0), "nothing: the value there was");
    ok(GIVES(0x2fff, 2, 0x73, 0x7f), "breg3 - 1");
    ok(GIVES(0x3009, 3, 0x73, 8, 0x06), "deref");
    ok(!GIVES(0, 3, 0x73, 4, 0x06), "deref of what must not be read");
    ok(GIVES(-2, 2, 0x09, 0xfe) && GIVES(0xfe, 2, 0x08, 0xfe) && GIVES(0x201, 3, 0x0a, 1, 2), "constants");
    ok(GIVES(-1, 2, 0x11, 0x7f) && GIVES(200, 3, 0x10, 0xc8, 1) && GIVES(7, 1, 0x37), "constants by LEB128, literals");
    ok(GIVES(7, 2, 0x23, 2) && GIVES(10, 2, 0x12, 0x22) && GIVES(4, 2, 0x31, 0x1c), "plus_uconst, dup, plus, minus");
    ok(GIVES(1, 2, 0x33, 0x1a) && GIVES(7, 2, 0x33, 0x21) && GIVES(20, 2, 0x32, 0x24) && GIVES(2, 2, 0x31, 0x25),
       "and, or, shl, shr");
    ok(GIVES(0, 3, 0x08, 64, 0x24) && GIVES(0, 3, 0x08, 64, 0x25), "shl and shr by all bits");
    ok(GIVES(1, 2, 0x35, 0x2a) && GIVES(0, 2, 0x36, 0x2a), "ge");
    /* sp + 8 + (((pc & 15) >= 11) << 3), as in a procedure linkage table */
    ok(GIVES(CFI_SP * 0x1000 + 16, 11, 0x70 + CFI_SP, 8, 0x3c, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22, 0x96),
       "that of a procedure linkage table");
    ok(!GIVES(0, 1, 0x22) && !GIVES(0, 2, 0x22, 0x22), "too few values are refused");
    ok(!GIVES(0, 16, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30),
       "and too many");
    ok(!GIVES(0, 3, 0x2f, 0xfd, 0xff), "and jumps");
    ok(!GIVES(0, 3, 0x30), "and a block that is cut");
}

/* ------------------------------------------------------------------------------------- broken information */
static size_t wild; /* rows that must not be used as they are */

/* Finds the rules, and evaluates what expressions there are. */
static bool use(struct cfi_module *module, uintptr_t pc) {
    struct cfi_row row;
    bool found = cfi_find(module, pc, &row);
    wild += found && row.return_register >= CFI_REGISTERS;
    for (unsigned i = 0; found && i <= CFI_REGISTERS; i++) {
        const struct cfi_rule *rule = i == CFI_REGISTERS ? &row.cfa : &row.rules[i];
        uintptr_t result = 0;
        if (rule->kind == CFI_SAVED_AT || rule->kind == CFI_EXPRESSION)
            evaluate(module->begin + rule->value, (size_t)(module->end - module->begin - rule->value), &result);
    }
    return found;
}

static void test_random_instructions(void) {
    struct cfi_module module = small_module();
    size_t found = 0;
    for (int i = 0; i < 300000; i++) {
        uint8_t instructions[SPACE];
        for (size_t k = 0; k < SPACE; k++) /* mostly such as have a meaning */
            instructions[k] = (uint8_t)(random_next() >> (random_next() % 4 == 0 ? 0 : 3) & (k % 2 ? 0x1f : 0xff));
        memcpy(small.function.instructions, instructions, SPACE);
        module.common.address = 0;
        found += use(&module, (uintptr_t)&small + 1000 + random_next() % 100);
    }
    ok(found > 1000 && found < 299000 && wild == 0, "random instructions: %zu of 300000 make sense, none does harm",
       found);
}

#ifdef DLFO_EH_SEGMENT_TYPE
/* The C library's own, as the loader knows it: from the header to the end of the segment that it is in. */
static int find_segment_end(struct dl_phdr_info *info, size_t size, void *arg) {
    uintptr_t *span = arg; /* address, end */
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && span[0] - start < info->dlpi_phdr[i].p_filesz)
            span[1] = start + info->dlpi_phdr[i].p_filesz;
    }
    return span[1] != 0;
}

static void test_broken_information(void) {
    struct dl_find_object object;
    ok(_dl_find_object((void *)getppid, &object) == 0 && object.dlfo_eh_frame != NULL, "the C library is found");
    uintptr_t span[2] = {(uintptr_t)object.dlfo_eh_frame, 0};
    dl_iterate_phdr(find_segment_end, span);
    size_t size = span[1] - span[0];
    uint8_t *copy = malloc(size);
    memcpy(copy, object.dlfo_eh_frame, size);
    int32_t *table = (int32_t *)(copy + 12); /* pairs */
    uint32_t count;
    memcpy(&count, copy + 8, sizeof count);
    diag("%zu bytes, %u functions", size, count);

    struct cfi_module module = {.begin = copy, .end = copy + size, .header = copy};
    size_t found = 0;
    for (uint32_t i = 0; i < count; i++)
        found += use(&module, (uintptr_t)copy + (uintptr_t)(intptr_t)table[2 * i]);
    ok(count > 1000 && found == count, "every function of the C library has rules at its beginning");

    size_t survived = 0;
    for (int round = 0; round < 200000; round++) {
        size_t which = random_next() % count;
        uintptr_t pc = (uintptr_t)copy + (uintptr_t)(intptr_t)table[2 * which] + random_next() % 200;
        size_t entry = (size_t)table[2 * which + 1];
        size_t common = entry + 4 - *(uint32_t *)(copy + entry + 4);
        size_t near[] = {0, 12 + 8 * which, common, entry, entry};
        size_t at[3];
        uint8_t before[3];
        for (int k = 0; k < 3; k++) {
            at[k] = near[random_next() % 5] + random_next() % 32;
            before[k] = copy[at[k]];
            copy[at[k]] = (uint8_t)(random_next() % 3 == 0 ? 0xff : random_next());
        }
        module.common.address = 0;
        module.end = copy + size;
        if (round % 4 == 0) { /* cut short as well */
            module.end = copy + entry + random_next() % 64;
            module.end = module.end > copy + size ? copy + size : module.end;
            ASAN_POISON_MEMORY_REGION(module.end, (size_t)(copy + size - module.end));
        }
        survived += use(&module, pc);
        ASAN_UNPOISON_MEMORY_REGION(copy, size);
        for (int k = 3; k-- > 0;)
            copy[at[k]] = before[k];
    }
    ok(survived > 1000 && survived < 199000 && wild == 0,
       "broken entries: %zu of 200000 still make sense, none does harm", survived);
    free(copy);
}
#endif

int main(void) {
    void *first[1];
    backtrace(first, 1); /* loads a library */
#ifdef DLFO_EH_SEGMENT_TYPE
    test_calls();
    test_signals();
    test_broken_stacks();
    test_broken_information();
#endif
    test_frame_pointers();
    test_instructions();
    test_simple_frames();
    test_remembering();
    test_races();
    test_expressions();
    test_random_instructions();
    return tap_done();
}
