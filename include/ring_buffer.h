/*
 * ring_buffer: a ring of bytes, or of messages, between processes.
 *
 * The ring lies in a shared memory region (memory_mapper.h) that one process creates and others attach to by its name.
 * Any number of them write and read, each from any number of threads. What is read is what was written, once and in the
 * order in which it was written. A writer or reader that is killed, at whatever instant, leaves the ring in use: a
 * write that is no longer than the ring was then made as a whole or not at all, and what a reader had not finished
 * reading stays for the next.
 *
 * Every function here
 *   - is thread-safe, also on one handle, but for destroy_ring_buffer, which must be the last call; and not
 *     async-signal-safe;
 *   - fails with NULL or -1 and says by errno why. EINVAL: a NULL handle; NULL data, or more than SSIZE_MAX of it.
 *     EBADMSG: what is in the shared memory cannot be; nothing beyond the ring was touched. EDEADLK: called from a
 *     signal handler that interrupted the same operation;
 *   - waits asleep (futex) after a short look, and goes on waiting after a signal's handler.
 *
 * Link with -lmemory_mapper; or compile memory_mapper.c and ring_buffer.c into the program.
 */
#ifndef RING_BUFFER_H
#define RING_BUFFER_H

#include "memory_mapper.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * To be read only, and what it points to as well. Positions count the bytes since the creation and never wrap: a byte's
 * place is its position modulo the capacity. They change at any time: read them atomically.
 */
typedef struct s_ring_buffer {
    t_mapping *mapping;
    size_t capacity;
    size_t *head; /* bytes written so far; and RING_ENDED, once the end of the stream is marked */
    size_t *tail; /* bytes read so far */
    char *data;   /* `capacity` bytes */
} t_ring_buffer;

#define RING_ENDED ((size_t)1 << 63)

/* --------------------------------------------------------------------------------- making and leaving */

/* For create_ring_buffer_ex. */
#define RING_SPSC    1 /* one writer and one reader, who take no locks: see ring_write */
#define RING_REPLACE 2 /* unlink first what has that name: the way out when a creator crashed */

/*
 * create_ring_buffer: a new ring of `capacity` bytes, 1 or more, for processes of this user. `name` is a shared
 * region's: "/" and 1 to 255 characters. errno: EEXIST (there is one of that name: see RING_REPLACE), EINVAL (name, or
 * capacity 0), ENAMETOOLONG, ENOMEM, ENOSPC, and others of create_shared_region. What fails leaves nothing behind.
 */
t_ring_buffer *create_ring_buffer(const char *name, size_t capacity);

/* create_ring_buffer_ex: the same with `flags` (0, or RING_*, or'ed) and the region's permissions `mode`. */
t_ring_buffer *create_ring_buffer_ex(const char *name, size_t capacity, int flags, mode_t mode);

/*
 * attach_ring_buffer: the ring of that name. One that is still being created is waited for, a second at most. errno:
 * ENOENT (there is none), ETIMEDOUT (its creator died over it), EINVAL (it is no ring), EBADMSG (it is a damaged one),
 * EXDEV (it belongs to another PID namespace, where a thread's number means another thread), and others of
 * attach_shared_region.
 */
t_ring_buffer *attach_ring_buffer(const char *name);

/*
 * destroy_ring_buffer: ends the use of a handle; NULL is ignored. By the process that created the ring, on the handle
 * that create gave it: marks the end of the stream, unlinks the name and unmaps; those who have the ring attached read
 * what is left, then the end. An attached handle is only detached, and so is any that a child of fork inherited. No
 * other thread may be using the handle: ring_close sends them out.
 */
void destroy_ring_buffer(t_ring_buffer *rb);

/* --------------------------------------------------------------------------------------------- bytes */

/*
 * ring_write: puts `len` bytes into the ring, waiting while there is not enough room; returns `len`. Up to `capacity`
 * they are put there all at once. Longer writes go piece by piece as readers make room, and return less if the end of
 * the stream is marked meanwhile. No write is interleaved with another: writers wait for their turn. errno: EPIPE (the
 * end is marked; no signal is raised), EPROTO (the ring is one of messages), EBUSY (in a ring with RING_SPSC another
 * handle, or thread at this moment, is the writer: a handle becomes that by its first write, until it is destroyed or
 * its process dies).
 */
ssize_t ring_write(t_ring_buffer *rb, const void *data, size_t len);

/*
 * ring_read: takes what is there, up to `len` bytes, waiting while the ring is empty. Returns their number; 0 at the
 * end of the stream, or if `len` is 0. errno: EPROTO and EBUSY as above.
 */
ssize_t ring_read(t_ring_buffer *rb, void *data, size_t len);

/*
 * ring_try_write, ring_try_read: the same without waiting: EAGAIN, if room or data lack, or if another writer (reader)
 * waits for them or is at work. A write longer than the capacity puts what there is room for, and returns its length.
 */
ssize_t ring_try_write(t_ring_buffer *rb, const void *data, size_t len);
ssize_t ring_try_read(t_ring_buffer *rb, void *data, size_t len);

/*
 * ring_timed_write, ring_timed_read: the same, waiting `timeout_ms` milliseconds at most, for ever if that is negative:
 * ETIMEDOUT. A write longer than the capacity returns what it has put by then, if that is anything.
 */
ssize_t ring_timed_write(t_ring_buffer *rb, const void *data, size_t len, int timeout_ms);
ssize_t ring_timed_read(t_ring_buffer *rb, void *data, size_t len, int timeout_ms);

/* ------------------------------------------------------------------------------------------- messages */

/* A message takes so many bytes of the ring besides its own. */
#define RING_MESSAGE_HEADER 4

/*
 * ring_write_message, ring_read_message: the same for messages, which are written and read whole. A ring is one of
 * bytes or of messages by the first call, and the others fail from then on (EPROTO). A message has 1 byte at least, so
 * that 0 is the end of the stream. errno besides: EMSGSIZE (writing: it is longer than capacity - RING_MESSAGE_HEADER;
 * reading: than `len`, and it stays in the ring), EINVAL (len is 0).
 */
ssize_t ring_write_message(t_ring_buffer *rb, const void *data, size_t len);
ssize_t ring_read_message(t_ring_buffer *rb, void *data, size_t len);
ssize_t ring_try_write_message(t_ring_buffer *rb, const void *data, size_t len);
ssize_t ring_try_read_message(t_ring_buffer *rb, void *data, size_t len);
ssize_t ring_timed_write_message(t_ring_buffer *rb, const void *data, size_t len, int timeout_ms);
ssize_t ring_timed_read_message(t_ring_buffer *rb, void *data, size_t len, int timeout_ms);

/* ------------------------------------------------------------------------------------ end of the stream */

/*
 * ring_close: marks the end of the stream, for all: writes fail with EPIPE from now on, those that wait as well; reads
 * give what is left, then 0. The handle stays. Marking it again does nothing.
 */
int ring_close(t_ring_buffer *rb);

#ifdef __cplusplus
}
#endif

#endif
