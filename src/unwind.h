/*
 * The calling thread's stack as return addresses, for reports that say who allocated. It allocates nothing, takes no
 * lock, faults on no stack however broken, leaves errno alone and may be called from a signal handler: the C library's
 * backtrace() loads a library at its first call, and a loader's lock may be held by whoever called malloc.
 */
#ifndef UNWIND_H
#define UNWIND_H

#include "base.h"

/*
 * Stores up to `capacity` return addresses, innermost first, and gives their number. `from_frame` is the
 * __builtin_frame_address(0) of a caller, near or far: that function's return address is the first; NULL: the return
 * address of unwind_walk itself.
 *
 * By call frame information, which code has that never heard of frame pointers (the C library's, most of a
 * distribution's). The walk ends at the stack's bottom, or at code that has none: what a program generates at run time,
 * and assembly without .cfi directives. Where the C library cannot find a module's information without a lock (glibc
 * before 2.35, static programs without a C++ runtime), as unwind_walk_frame_pointers.
 */
size_t unwind_walk(uintptr_t *pcs, size_t capacity, const void *from_frame);

/* The same by frame pointers, for programs whose every function keeps one; ends at, or skips, code that does not.
 * `from_frame` is not NULL. */
size_t unwind_walk_frame_pointers(uintptr_t *pcs, size_t capacity, const void *from_frame);

#endif
