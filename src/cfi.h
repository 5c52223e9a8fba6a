/*
 * Call frame information: how one gets from a function's frame to its caller's, as compilers and assemblers write it
 * into .eh_frame (DWARF 5, sections 2.5 and 6.4; Linux Standard Base, "Exception Frames").
 *
 * This unit goes from bytes and an address of code to rules; whose stack they are applied to is not known here. It has
 * no state and reads nothing outside of the bytes it is given, whatever these say, in time linear in one function's
 * share of them: so any bytes can be tried on it.
 */
#ifndef CFI_H
#define CFI_H

#include "base.h"

/* DWARF's numbers for the registers of the machine. Rules for others (vectors, flags) are skipped. */
#if defined(__x86_64__)
#define CFI_REGISTERS 17 /* the last stands for the return address, or the frame's own pc */
#define CFI_FP        6
#define CFI_SP        7
#elif defined(__aarch64__)
#define CFI_REGISTERS 32
#define CFI_FP        29
#define CFI_SP        31
#endif

/* What the caller's value of a register is. CFA: the canonical frame address, the stack pointer before the call. */
enum cfi_kind {
    CFI_SAME = 0,   /* unchanged */
    CFI_UNDEFINED,  /* lost; of the return address: there is no caller */
    CFI_SAVED,      /* in memory at CFA + value */
    CFI_OFFSET,     /* CFA + value */
    CFI_REGISTER,   /* in register `value` */
    CFI_SAVED_AT,   /* in memory where the expression says; value: its block's offset from the module's beginning */
    CFI_EXPRESSION, /* what the expression says; value: likewise */
};

struct cfi_rule {
    int32_t value;
    uint8_t kind; /* enum cfi_kind */
};

struct cfi_row {
    struct cfi_rule cfa; /* CFI_REGISTER with cfa_offset added, or CFI_EXPRESSION; CFI_SAME: none given */
    int32_t cfa_offset;
    uint32_t ruled; /* bit r: register r has a rule other than CFI_SAME */
    struct cfi_rule rules[CFI_REGISTERS];
    uint8_t return_register; /* below CFI_REGISTERS */
    bool is_signal_frame;    /* the frame was not called, but entered between two instructions */
};

/* What a CIE says for all the functions that refer to it. */
struct cfi_common {
    uintptr_t address;
    uint64_t code_align;
    int64_t data_align;
    struct cfi_row initial;
    uint8_t encoding;      /* of addresses of code */
    bool has_augmentation; /* in the FDE: so many bytes to skip */
};

/* Of one loaded file, for one thread at a time. */
struct cfi_module {
    const uint8_t *begin;     /* what may be read: its mapping, from here */
    const uint8_t *end;       /* to here */
    const uint8_t *header;    /* its .eh_frame_hdr, with the sorted table that all linkers write */
    const uint8_t *entry;     /* of the last row that was found: the entry, ... */
    size_t entry_used;        /* ... of which so many bytes say it, with what is common */
    struct cfi_common common; /* the last one met, of whatever module; address 0: none yet */
};

/* The rules that hold at the instruction at `pc`. false: there is nothing for this pc, or it makes no sense. */
bool cfi_find(struct cfi_module *module, uintptr_t pc, struct cfi_row *row);

#endif
