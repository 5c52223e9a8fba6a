/*
 * All thread caches: which thread has which, and those that wait for a thread. Caches are for ever: as many of each
 * arena as it had threads at once. Each is in one list of its arena's: active while a thread has it, or is busy with
 * it; parked else.
 *
 * A thread gives its cache back when a destructor of thread-specific data runs. Some end without: those whose C library
 * had no key left, or lost the value. So there is a second way, which asks no thread for anything: see find_dead.
 */
#ifndef TCACHES_H
#define TCACHES_H

#include "tcache.h"

/* Makes a cache the calling thread's current one: one that another thread parked, or a new one. Without memory, and
 * after tcaches_detach, the thread stays without. */
void tcaches_attach(void);

/* The calling thread ends: its current cache waits in the arena for the next, warm if it is the only one there. */
void tcaches_detach(void);

/* Threads may end without tcaches_detach: from now on their caches are looked for, where a thread would need a new one,
 * and by tcaches_drain_parked. Once, at boot, before any thread but this one has a cache. Not in all C libraries. */
void tcaches_expect_dead(void);

/* Everything in the caches that no thread has goes back to the arenas. */
void tcaches_drain_parked(void);

/* The cache that was made before `cache`, with NULL the newest; NULL: there are no more. It is *size bytes long, and
 * *outgoing bytes of blocks are in its outgoing batch. No lock, and no system call. */
const struct tcache *tcaches_look_up(const struct tcache *cache, size_t *size, size_t *outgoing);

/* In the child of fork, before the locks are reset: the vanished threads' caches are parked. */
void tcaches_adopt_orphans(void);

#endif
