/*
 * memory_mapper: files, anonymous memory and shared memory regions, mapped on purpose.
 *
 * A mapping is known by its handle, a t_mapping, from the call that makes it to unmap. Handles and names lie in mapped
 * pages of their own: nothing here calls malloc, so the library works with any and before any is usable.
 *
 * Every function here
 *   - is thread-safe, on one mapping too, and not async-signal-safe; fork may be called at any time;
 *   - fails with NULL or -1 and says by errno why; besides what is named, errno may be what open(2), mmap(2) and the
 *     other system calls behind it give. What fails leaves nothing behind;
 *   - refuses with EINVAL a pointer that is no live handle, and harms nobody: be it NULL, or one that was unmapped
 *     before, for no later handle gets its address;
 *   - opens descriptors with O_CLOEXEC, and goes on after a signal's interruption (EINTR);
 *   - takes sizes and offsets in bytes; they need not be multiples of the page size.
 *
 * Link with -lmemory_mapper; or compile memory_mapper.c into the program. Do not cancel a thread within a call: what it
 * holds there would stay.
 */
#ifndef MEMORY_MAPPER_H
#define MEMORY_MAPPER_H

#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* To be read only: what is written here changes nothing of the mapping, nor of what the functions below do with it. */
typedef struct s_mapping {
    void *addr;
    size_t size; /* as asked for, or the file's; the pages' last bytes beyond it are nobody's */
    int fd;      /* open as long as the mapping is there; -1: anonymous */
    int flags;   /* MAP_SHARED or MAP_PRIVATE; and MAP_ANONYMOUS */
    int prot;    /* PROT_*, as they are now */
    char *name;  /* of the region, or the path as it was given; NULL: anonymous */
} t_mapping;

/* ------------------------------------------------------------------------------------ making mappings */

/*
 * map_file: the whole of a regular file. Writable, the file is opened O_RDWR and what is written reaches it
 * (MAP_SHARED); else it is opened O_RDONLY and mapped PROT_READ, MAP_PRIVATE. errno: ENOENT (no such file), EINVAL
 * (NULL, the empty path; or an empty file, of which there is nothing to map), EISDIR, ENODEV (a FIFO, socket or device:
 * found out without blocking), EAGAIN (another process has a lease on it), EACCES.
 */
t_mapping *map_file(const char *filepath, int writable);

/*
 * map_anonymous: zeroed memory, PROT_READ | PROT_WRITE. Shared, it stays one memory with the children of fork; private,
 * they get a copy. errno: EINVAL (size 0), ENOMEM.
 */
t_mapping *map_anonymous(size_t size, int shared);

/*
 * create_shared_region: a new region, that is a POSIX shared memory object, zeroed, for this user alone (mode 0600).
 * Its memory is reserved: where there is not enough, this fails, and no access later. `name` is "/" and 1 to 255
 * characters with no other "/" among them, not "/." or "/..". errno: EEXIST (there is one of that name: see below),
 * EINVAL (name, or size 0), ENAMETOOLONG, ENOSPC, EFBIG (above RLIMIT_FSIZE), ENOMEM.
 */
t_mapping *create_shared_region(const char *name, size_t size);

/* For create_shared_region_ex. */
#define MAPPER_REPLACE 1 /* unlink first what has that name */

/*
 * create_shared_region_ex: the same with `flags` (0 or MAPPER_REPLACE) and the permissions `mode` (to 0777, less the
 * umask). Replacing is the way out when a process crashed and left its region: those who have the old one mapped keep
 * it, whoever attaches from now on gets the new. If it fails the old one may be gone all the same. errno besides:
 * EINVAL (flags, mode), EACCES (what has the name is another user's).
 */
t_mapping *create_shared_region_ex(const char *name, size_t size, int flags, mode_t mode);

/*
 * attach_shared_region: the region of that name, at the size that it has; not writable, it is mapped PROT_READ and
 * cannot be made writable. One that is still being created is waited for, a second at most. errno: ENOENT (there is
 * none), ETIMEDOUT (it stayed empty: its creator crashed), EACCES, EINVAL and ENAMETOOLONG as above; ELOOP, EISDIR or
 * ENODEV (the name is a symbolic link's, a directory's, or some other thing's that is no region).
 */
t_mapping *attach_shared_region(const char *name, int writable);

/* --------------------------------------------------------------------------------------- using them */

/*
 * sync_mapping (msync): writes what has changed back to the file. `flags` is one of MS_SYNC (returns when it is
 * written) and MS_ASYNC, and may have MS_INVALIDATE. Of an anonymous or private mapping there is nothing to write, and
 * that succeeds. errno: EINVAL (flags), EIO.
 */
int sync_mapping(t_mapping *mapping, int flags);

/*
 * protect_mapping (mprotect): `prot` is PROT_NONE, or of PROT_READ, PROT_WRITE and PROT_EXEC, or'ed; the handle shows
 * it once it holds. errno: EINVAL (others), EACCES (PROT_WRITE on a shared mapping that is not writable).
 */
int protect_mapping(t_mapping *mapping, int prot);

/*
 * mapping_check: whether all of the mapping can still be accessed. A file or region that became smaller has no memory
 * for the rest, and touching that raises SIGBUS. errno: EFAULT (it is smaller).
 */
int mapping_check(t_mapping *mapping);

/*
 * mapping_read, mapping_write: copy `len` bytes from `offset` in the mapping to `data`, and to there from `data`. What
 * would raise SIGBUS or SIGSEGV is an error here, whenever the file shrinks; a part may have been copied by then. The
 * kernel copies: process_vm_readv(2), from this process to itself. errno: EINVAL (beyond the mapping's size), EFAULT
 * (nothing is behind these addresses any more; or its prot forbids it), EPERM or ENOSYS (a sandbox does).
 */
int mapping_read(t_mapping *mapping, size_t offset, void *data, size_t len);
int mapping_write(t_mapping *mapping, size_t offset, const void *data, size_t len);

/* ------------------------------------------------------------------------------------ ending them */

/*
 * unmap: takes the mapping away, closes its descriptor and releases the handle; waits for calls of other threads that
 * are still at it. If the kernel does not take the mapping away (ENOMEM: too many others) nothing is changed and the
 * handle stays live; what goes wrong later does not keep the rest from being released, and is reported.
 */
int unmap(t_mapping *mapping);

/*
 * destroy_shared_region (shm_unlink): nobody can attach to the region any more; those who have it mapped keep it.
 * errno: ENOENT (there is none), EACCES, EINVAL and ENAMETOOLONG as above.
 */
int destroy_shared_region(const char *name);

#ifdef __cplusplus
}
#endif

#endif
