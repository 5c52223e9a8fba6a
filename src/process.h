/*
 * What happens once in a process or a thread: boot, a thread's first and last use, fork.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include "tcache.h"

/* Whether a debugging mode is on, or a sanitizer's runtime is loaded: then no thread has a cache, so that every call
 * comes by a slow path, and src/debug, or the runtime, is to handle it. Constant after boot. */
extern bool process_debugs;

/* Calls that are recorded of the stack of who takes a block, or gives one back. Constant after boot. */
extern unsigned process_stack_depth;

/* Whether debugging modes may change at run time. */
bool process_may_debug(void);

/* Counts how often scribbling was switched on or off, from 1: memory that was filled in a period may have been used
 * since in another, by blocks that nobody filled. */
extern _Atomic uint32_t process_scribble_period;

/* The calling thread's cache, the allocator booted and the cache made if need be. It may be one that caches nothing
 * (tcache_is_real): there was no memory, or the thread's destructors have run. */
struct tcache *process_enter(void);

/* The same for calloc, which pthread_setspecific may have called: does not call that in turn (process.c). */
struct tcache *process_enter_for_calloc(void);

/* Before the dynamic linker has initialised thread-local variables: does so for ours. */
void process_start_early(void);

/* As gettid(2), of which a thread makes one call. In a child of vfork, which has its parent's memory, its parent's. */
uint32_t process_thread(void);

/* Has `action` called once, by the next thread that comes to a slow path, with no lock held. Async-signal-safe. */
void process_defer(void (*action)(void));

/* Gives the blocks that this thread's and the parked caches hold back to the arenas. */
void process_drain(void);

#endif
