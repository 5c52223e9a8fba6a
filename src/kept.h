/*
 * What the C library, the C++ library and the dynamic linker keep by design, and a program cannot free: of all blocks
 * that are live at exit, those that their own variables lead to, directly or by way of other such blocks.
 *
 * Their variables: the writable data of their files, but for the list of open streams, which are the program's; their
 * thread-local variables; what the loader keeps of each file; and each thread's table of thread-local variables, with
 * what it points to. A static program is one file: there it is the standard streams' buffers, and what was taken before
 * the first constructor ran.
 */
#ifndef KEPT_H
#define KEPT_H

#include "base.h"

struct kept_block {
    uintptr_t address;
    size_t size;
    uint32_t stack; /* the caller's */
    bool is_kept;
    size_t next; /* ours */
};

/* Notes what is live before the first constructor. */
void kept_note_start(void);

/* Sets is_kept of those among `blocks`, sorted by address, that it holds for, and clears it of the others. Takes the
 * loader's lock. Reads what may be unmapped meanwhile by way of the kernel: where that is forbidden, finds nothing. */
void kept_mark(struct kept_block *blocks, size_t count);

#endif
