/*
 * The expressions of call frame information (DWARF 5, section 2.5): a machine with a stack of words, for frames that
 * no register and offset describe.
 */
#ifndef EXPRESSION_H
#define EXPRESSION_H

#include "base.h"

/* What an expression may know of: the registers by DWARF's numbers, and words of the thread's stack. */
struct expression_context {
    const uintptr_t *registers;
    unsigned count;
    bool (*read_word)(void *reader, uintptr_t address, uintptr_t *value); /* false: it must not be read */
    void *reader;
};

/*
 * Evaluates the block (length, then operations) at `block`, which ends before `end` at the latest. *result is the first
 * value on the stack before, and becomes the topmost one. false: it makes no sense. Jumps are refused, so that any
 * bytes come to an end.
 */
bool expression_evaluate(const uint8_t *block, const uint8_t *end, const struct expression_context *context,
                         uintptr_t *result);

#endif
