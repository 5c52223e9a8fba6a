/*
 * The debugging modes: scribble, canaries, quarantine, guard pages, stacks, history, checking as it goes. With one of
 * them on, threads have no thread cache, so that every call reaches a slow path, where it is handed to these functions;
 * the hit paths know nothing of them.
 *
 * What they add to a report: who called, and who took the block or gave it back, as far as the ledger knows.
 */
#ifndef DEBUG_H
#define DEBUG_H

#include "process.h"

INLINE bool debug_is_on(void) {
    return UNLIKELY(process_debugs);
}

/* What a function returns whose frame is to stand until then: no tail call. Frame pointers are followed from there, in
 * a program without tables of its frames. */
INLINE void *debug_keep_frame(void *result) {
    __asm__ volatile("" : "+r"(result));
    return result;
}

/* As malloc, aligned_alloc (a power of two) and calloc of one element, which their callers have checked. `frame` is
 * the __builtin_frame_address(0) of a function that the program called. */
void *debug_take(size_t size, size_t alignment, bool zero, const void *frame);

/* As free; `call` is the function's name. */
void debug_give(const char *call, void *block, const void *frame);

/* As realloc, but for NULL and size 0. */
void *debug_resize(void *block, size_t size, const void *frame);

/*
 * What misuse_report_pointer and misuse_report_given report; in the debugging modes also who called, and who took the
 * block or gave it back, as far as the ledger knows. `frame` as above; other modes do not look at it.
 */
void debug_report_pointer(const char *call, const void *block, const void *frame);
void debug_report_given(const char *call, const void *block, const char *what, size_t given, size_t size,
                        size_t capacity, const void *frame);

/* Lets all go that is in the quarantine; whether there was anything. */
bool debug_drain(void);

/* The bytes of a live block that the program may use: with canaries, what it asked for. */
size_t debug_usable(size_t size, size_t capacity);

#endif
