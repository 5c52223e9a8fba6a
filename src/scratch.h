/*
 * Memory for the length of one call: for what takes more than the 4 KiB that a call of ours may have of a thread's
 * stack, the smallest being 16 KiB. Reports and figures have such needs; malloc and free, and what they report, do not.
 *
 * It is mapped, and no figure of ours counts it: else what looks would see itself. Where the kernel gives none, one
 * call at a time is served from a reserve, since that is when reports are wanted most. No lock is held, so a call may
 * come to another in the midst of it. A child of fork has what the forking thread had, and no other thread's.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "base.h"

#define SCRATCH_MAX ((size_t)32 * 1024)

/* `size` bytes, at most SCRATCH_MAX, zero. NULL: there is no memory, which a line beginning with `call` has said, and
 * errno is ENOMEM. The whole need of a call is taken at once, before it has done anything. */
void *scratch_take(const char *call, size_t size);

/* Gives it back; errno is left alone. */
void scratch_give(void *bytes);

/* In the child of fork. */
void scratch_drop_others(void);

#endif
