/*
 * What is wrong with a call, in one line on stderr: the caller's fault. The heap is whole, and the process goes on
 * unless the user asked for an abort. Callers hold no lock.
 */
#ifndef MISUSE_H
#define MISUSE_H

#include "message.h"

/* `pointer` is not the start of a live block. `more`, here and below: as message_end_misuse has it. */
void misuse_report_pointer(const char *call, const void *pointer, const struct message_more *more);

/* It is one that was freed, of this requested size; `arena`, here and below: ARENA_NONE for LARGE. */
void misuse_report_freed(const char *call, const void *block, size_t size, unsigned arena,
                         const struct message_more *more);

/* A byte of a block, or behind it, that was written where it should not have been. */
void misuse_report_byte(const char *call, const char *what, const void *block, size_t size, unsigned arena,
                        size_t offset, uint8_t byte, const struct message_more *more);

/* The size, or the alignment, `given` with a live block is not the block's; `what` says which. */
void misuse_report_given(const char *call, const void *block, const char *what, size_t given, size_t size,
                         size_t capacity, const struct message_more *more);

/* Whether a call that looks at the heap comes from a debugger or a signal handler that has stopped this thread inside
 * malloc: then it says so, and the call is to do nothing. */
bool misuse_is_inside_malloc(const char *call);

#endif
