/*
 * cadastre: a multi-arena malloc that keeps an exact register of every live block.
 *
 * The malloc family is exported twice: under the standard names, which replace the C library's when
 * libcadastre is preloaded or linked, and under cadastre_* names, which are always ours.
 *
 * Unless a declaration says otherwise, every function here
 *   - is thread-safe, and not async-signal-safe (POSIX.1-2017, 2.4.3);
 *   - sets errno to ENOMEM when it returns NULL for want of memory, and leaves it alone on success;
 *   - takes and gives sizes and alignments in bytes.
 *
 * Link with -lcadastre, or preload libcadastre.so into a program that was linked without it.
 */
#ifndef CADASTRE_H
#define CADASTRE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#if __cplusplus >= 201103L
#define CADASTRE_NOEXCEPT noexcept
#else
#define CADASTRE_NOEXCEPT throw()
#endif
#else
#define CADASTRE_NOEXCEPT
#endif

/* ------------------------------------------------------------------------------- the malloc family */

/*
 * malloc (C11 7.22.3.4): a block of at least `size` bytes, aligned to 16 or more, contents indeterminate.
 * malloc(0) gives a unique pointer that can be freed. A size above PTRDIFF_MAX fails with ENOMEM.
 */
void *cadastre_malloc(size_t size) CADASTRE_NOEXCEPT;

/*
 * free (C11 7.22.3.3): gives back `block`; NULL is ignored. errno is unchanged (POSIX.1-2024).
 * A pointer that is not the start of a live block is reported in one line on stderr and otherwise ignored;
 * CADASTRE_ABORT=1 in the environment aborts the process instead. The same holds for every function below
 * that takes a block.
 */
void cadastre_free(void *block) CADASTRE_NOEXCEPT;

/* calloc (C11 7.22.3.2): count * size zero bytes. A product that overflows fails with ENOMEM. */
void *cadastre_calloc(size_t count, size_t size) CADASTRE_NOEXCEPT;

/*
 * realloc (C11 7.22.3.5, glibc): the block resized to `size`, at the same address or a new one, contents kept up
 * to the smaller of the two capacities. realloc(NULL, size) is malloc(size); realloc(block, 0) frees and returns
 * NULL. To a smaller size it never fails. On failure it returns NULL and the old block is untouched: errno is ENOMEM,
 * or EINVAL when `block` is not the start of a live block.
 */
void *cadastre_realloc(void *block, size_t size) CADASTRE_NOEXCEPT;

/* reallocarray (glibc, BSD): realloc(block, count * size); a product that overflows fails with ENOMEM. */
void *cadastre_reallocarray(void *block, size_t count, size_t size) CADASTRE_NOEXCEPT;

/*
 * aligned_alloc (C11 7.22.3.1 as amended by DR 460): a block whose address is a multiple of `alignment`.
 * An alignment that is no power of two fails with EINVAL; `size` need not be a multiple of it.
 */
void *cadastre_aligned_alloc(size_t alignment, size_t size) CADASTRE_NOEXCEPT;

/*
 * posix_memalign (POSIX.1-2017): stores the block in *result and returns 0; returns EINVAL (alignment is no power of
 * two, or no multiple of sizeof(void *)) or ENOMEM, and leaves *result alone, otherwise. errno is unchanged.
 */
int cadastre_posix_memalign(void **result, size_t alignment, size_t size) CADASTRE_NOEXCEPT;

/* memalign (glibc): as aligned_alloc, but an alignment that is no power of two is rounded up to one. */
void *cadastre_memalign(size_t alignment, size_t size) CADASTRE_NOEXCEPT;

/* valloc (glibc): a block aligned to the page size. */
void *cadastre_valloc(size_t size) CADASTRE_NOEXCEPT;

/* pvalloc (glibc): as valloc, `size` rounded up to a multiple of the page size. */
void *cadastre_pvalloc(size_t size) CADASTRE_NOEXCEPT;

/*
 * malloc_usable_size (glibc): the capacity of `block`, all of it writable, constant until the next realloc. 0 for
 * NULL, and 0 with a report for a pointer that is no live block.
 */
size_t cadastre_malloc_usable_size(void *block) CADASTRE_NOEXCEPT;

/*
 * free_sized, free_aligned_sized (C23 7.24.3.4, 7.24.3.5): free(block), with the size (and alignment) that it was
 * requested with. A size outside requested size..capacity, or an alignment that the address does not have, is
 * reported in one line; the block is freed all the same.
 */
void cadastre_free_sized(void *block, size_t size) CADASTRE_NOEXCEPT;
void cadastre_free_aligned_sized(void *block, size_t alignment, size_t size) CADASTRE_NOEXCEPT;

/* C23's names, which older C libraries do not declare. */
void free_sized(void *block, size_t size) CADASTRE_NOEXCEPT;
void free_aligned_sized(void *block, size_t alignment, size_t size) CADASTRE_NOEXCEPT;

/* -------------------------------------------------------------------------------------- the register */

/*
 * show_alloc_mem (our own): prints every live block on standard output, all arenas and LARGE merged in address order,
 * with the exact requested size, and a total. Exact while other threads allocate: a block that is live during the
 * whole call is listed, one that is free during the whole call is not. Allocates nothing and holds no lock while it
 * writes; it bypasses stdio, so fflush(stdout) first where the order of output matters. errno is unchanged.
 */
void show_alloc_mem(void) CADASTRE_NOEXCEPT;

/* ----------------------------------------------------------------------------------------- options */

/*
 * The options are environment variables, read once when the process starts; some may change later. CADASTRE_HELP=1
 * prints them all on standard error at start. A setuid program ignores them.
 *
 * In the functions below `name` is a variable's name with or without its CADASTRE_, but no alias, such as "ABORT".
 */

/*
 * cadastre_option_get (our own): stores the present value as text, 0-terminated, in `value`, which has room for `size`
 * bytes. The text is one that cadastre_option_set would take: "0" or "1" for a switch, a number in decimal, bytes with
 * K, M or G where they are whole, a word, a path (empty: none). Returns 0; or -1, and `value` is indeterminate: errno
 * is ENOENT (no such option) or ERANGE (`size` is too small).
 */
int cadastre_option_get(const char *name, char *value, size_t size) CADASTRE_NOEXCEPT;

/*
 * cadastre_option_set (our own): changes an option while the process runs; `value` is as in the environment. Other
 * threads see the change from their next call on that asks for the option. The value is copied. Returns 0; or -1, and
 * nothing is changed: errno is ENOENT (no such option), EPERM (it can be set at start only; or it is SCRIBBLE, PERTURB
 * or CHECK_EACH, and no debugging mode was on at start), EINVAL (malformed, or out of bounds) or ENOSPC (a process can set
 * an option to at most 15 different paths in its life).
 */
int cadastre_option_set(const char *name, const char *value) CADASTRE_NOEXCEPT;

/* cadastre_option_help (our own): prints to `fd` what CADASTRE_HELP=1 does: of each option its value, where that comes
 * from, its default, and what it is for. errno is unchanged. */
void cadastre_option_help(int fd) CADASTRE_NOEXCEPT;

/* -------------------------------------------------------------------------------------- debugging */

/*
 * cadastre_check (our own): looks over the whole heap: whether zones, slabs, bitmaps, states and the tree of LARGE
 * mappings agree, and with CADASTRE_CANARIES whether any live block was written past its end. Each fault is reported in
 * a line; the result is their number. It holds one arena's lock at a time, and other threads may go on.
 */
int cadastre_check(void) CADASTRE_NOEXCEPT;

#undef CADASTRE_NOEXCEPT
#ifdef __cplusplus
}
#endif

#endif
