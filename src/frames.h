/*
 * Frames whose rules are simple, remembered by their pc: what cfi.h finds in thousands of instructions is looked up in
 * some fifty. Simple is a frame whose caller's stack pointer is its own stack or frame pointer and a number, with the
 * return address, and the frame pointer if it changed, saved there.
 *
 * What is found is what cfi_find would say now, whatever was unloaded since and loaded in its place: unless it is of a
 * module that is never unloaded, an entry counts only while the bytes that it was read from are there, at the same
 * place of the same table's module.
 *
 * For any thread, and in a signal handler. There is no lock and no order: of an entry that is written while it is read,
 * or by two at once, or by a thread that a fork has left behind, the words do not fit together, and it is none.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include "cfi.h"

/* A simple frame's rules in a word; 0: there are none. */
typedef uint64_t frame_word;

enum {
    FRAME_SIMPLE = 1,
    FRAME_IS_LAST = 2,       /* it has no caller; nothing else is said then */
    FRAME_BY_POINTER = 4,    /* the CFA (cfi.h) is the frame pointer and an offset, else the stack pointer and that */
    FRAME_SAVES_POINTER = 8, /* the caller's frame pointer is saved, else it is the frame's */
};

/* The CFA's offset; and how far below the CFA the return address and the frame pointer are saved. In words. */
enum { FRAME_CFA_SHIFT = 16, FRAME_RETURN_SHIFT = 32, FRAME_POINTER_SHIFT = 48 };
#define FRAME_WORD sizeof(uintptr_t)

INLINE uintptr_t frame_part(frame_word word, unsigned shift) {
    return (uint16_t)(word >> shift) * FRAME_WORD;
}

/* The frame of the code at `pc`, if that was noted as lasting. 0: it is not remembered as such. */
frame_word frames_find_lasting(uintptr_t pc);

/* The frame of the code at `pc`, which is in the module. 0: it is not remembered. */
frame_word frames_find(const struct cfi_module *module, uintptr_t pc);

/* What cfi_find just found for `pc`, which is remembered; `lasting`: the module is never unloaded. 0: it is not
 * simple. */
frame_word frames_note(const struct cfi_module *module, uintptr_t pc, const struct cfi_row *row, bool lasting);

#endif
