/*
 * The only user of mmap and its kin, and the counters of what the kernel gave us. No function here touches errno; none
 * is called with a lock held, but for os_move (see there), and at boot.
 *
 * Addresses and sizes are page multiples unless said otherwise.
 */
#ifndef OS_H
#define OS_H

#include "base.h"

extern size_t os_page;
INLINE size_t os_page_size(void) {
    return os_page;
}

/* Zero pages, readable and writable, at an address of the kernel's choosing, or NULL. */
void *os_map(size_t size);

/* The same for addresses of which few will be touched: no huge page makes more than that resident. NULL also where all
 * that is mapped becomes resident at once (mlockall). */
void *os_map_sparse(size_t size);

/* Whether os_map would succeed now. */
bool os_has_room(size_t size);

/* The same at `address` exactly, or NULL where anything is mapped there already. */
void *os_map_at(void *address, size_t size);

/* The same at a multiple of `alignment`, a power of two of a page at least. */
void *os_map_aligned(size_t size, size_t alignment);

/*
 * The same for what the library keeps for itself: between two pages that cannot be touched, so that no block's overrun
 * reaches it, and without transparent huge pages. Where the process can have no more mappings the pages are just left
 * empty. os_own_guards is the length of both together.
 */
void *os_map_own(size_t size);
bool os_unmap_own(void *address, size_t size);
INLINE size_t os_own_guards(void) {
    return 2 * os_page_size();
}

/* Gives the pages back, address space included. false: the kernel had no memory to split a mapping with, all stands. */
bool os_unmap(void *address, size_t size);

/* As os_map and os_unmap, for the length of one call, which no counter here is to see. */
void *os_borrow(size_t size);
void os_return(void *address, size_t size);

/* The pages can no longer be touched; or can be again. false: they stand as they were. */
bool os_guard(void *address, size_t size);
bool os_unguard(void *address, size_t size);

/* Gives the pages back, keeps the addresses. true: they read as zero from now on; false: contents unknown. */
bool os_purge(void *address, size_t size);

/* Grows or shrinks a mapping where it is; false: it stands as it was. */
bool os_resize(void *address, size_t old_size, size_t new_size);

/* Moves a mapping to where it has room for new_size; NULL: it stands as it was. Called with the LARGE lock held, as
 * another thread may be given the vacated address at once. */
void *os_move(void *address, size_t old_size, size_t new_size);

/* Reads the page size. */
void os_boot(void);

/* A mapping is to have no transparent huge pages, even where all others have them: the first touch of a zone would cost
 * 2 MiB, and the first purge split it. Where others have none, either, this takes less time than to find that out.
 * LARGE mappings are left to the system's way. */
void os_avoid_huge_pages(void *address, size_t size);

unsigned os_cpu_count(void);  /* that this process may use: affinity and cgroup quota */
size_t os_memory_limit(void); /* the smaller of RLIMIT_AS and RLIMIT_DATA; SIZE_MAX: none */

/* Reads a file's beginning, 0-terminated, into `buffer`; gives its length, 0 on any failure. */
size_t os_read_file(const char *path, char *buffer, size_t capacity);

/* Bytes that we have mapped now, and the most there ever were; and all that os_purge has given back so far. */
size_t os_mapped(void);
size_t os_mapped_peak(void);
size_t os_purged(void);

/* Whether each page of [address, address + size) is resident, a byte each in `pages`: bit 0, the others undefined. One
 * that was only read counts, though the kernel's own zero page stands for it. Where nothing is mapped, nothing is
 * resident. */
void os_look_up_resident(const void *address, size_t size, unsigned char *pages);

#endif
