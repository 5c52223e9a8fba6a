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

/* -------------------------------------------------------------------------------------- statistics */

/*
 * Figures of the heap. They are gathered arena by arena and slab by slab, while other threads go on: in a process
 * whose other threads rest meanwhile every figure is exact, and every sum that is named here holds; otherwise each slab
 * and each counter is right for an instant of its own. In a child of fork a block for each thread that vanished may be
 * counted as cached though no cache holds it.
 *
 * Structures grow at the end only. The caller says how much it knows of, the library fills that in, and sets to zero
 * what it does not know itself; `size` says how many bytes the library knows.
 */

/*
 * Bytes by what they are good for. They sum to `total`: in cadastre_stats all that is mapped, by cadastre_resident that
 * part of it which is resident.
 */
struct cadastre_memory {
    uint64_t total;
    uint64_t live;       /* live blocks, as requested */
    uint64_t rounding;   /* what their capacities have beyond that */
    uint64_t caches;     /* free blocks in the caches of threads, also of some that have ended */
    uint64_t outgoing;   /* freed blocks that wait there to go back to other arenas */
    uint64_t free;       /* free blocks of slabs */
    uint64_t tails;      /* of slabs: what is too short for a block */
    uint64_t quarantine; /* freed blocks that the quarantine holds back */
    uint64_t retained;   /* empty slabs and LARGE spans, kept for the next; bounded (see the manual) */
    uint64_t idle;       /* addresses without memory: not used yet, or given back; resident if it was refused */
    uint64_t headers;    /* of zones: where the register of their blocks stands */
    uint64_t guards;     /* of zones, and with CADASTRE_GUARD of LARGE blocks: cannot be touched */
    uint64_t threads;    /* the thread caches themselves */
    uint64_t metadata;   /* magazines, batches, nodes of LARGE mappings */
    uint64_t directory;  /* from addresses to slabs */
    uint64_t debug;      /* the debugging modes' tables: ledger, history, quarantine */
    uint64_t other;      /* 0, or what the kernel would not take back */
    uint64_t spare[4];   /* 0: kinds to come */
};

/* How a lock was used so far. */
struct cadastre_lock_stats {
    uint64_t acquisitions;
    uint64_t contended; /* of which another thread held it */
    uint64_t slept_ns;  /* nanoseconds that threads slept for it; the time spent spinning before that is not measured */
};

struct cadastre_stats {
    size_t size;
    uint64_t arenas;
    uint64_t caches;        /* thread caches: of threads, and such as wait for the next thread */
    uint64_t live_blocks;   /* of all sizes */
    uint64_t cached_blocks; /* in caches, those outgoing included */
    uint64_t free_blocks;   /* in slabs */
    uint64_t large_blocks;  /* of the live ones, those that are LARGE ... */
    uint64_t large_bytes;   /* ... with that capacity */
    uint64_t large_free;    /* free LARGE spans, whose bytes are retained or idle */
    uint64_t mapped_peak;   /* the most there was of mapped.total */
    uint64_t purged;        /* bytes given back to the kernel so far whose addresses were kept */
    uint64_t metadata_used; /* of mapped.metadata, in powers of two */
    struct cadastre_lock_stats large_lock;
    struct cadastre_lock_stats metadata_lock;
    struct cadastre_memory mapped;
};

/* The size classes below LARGE, by block size. */
#define CADASTRE_CLASSES 80

/* One class in an arena; but for the first two, numbers of blocks. */
struct cadastre_class_stats {
    uint32_t block_size;
    uint32_t slabs;
    uint64_t live;
    uint64_t cached; /* in thread caches, or waiting there to go back */
    uint64_t free;   /* in slabs */
};

struct cadastre_arena_stats {
    size_t size;
    uint64_t threads; /* that it is assigned to */
    uint64_t zones;
    uint64_t zones_mapped; /* so far */
    uint64_t mapped_peak;  /* bytes of its zones */
    uint64_t slabs;
    uint64_t refills;      /* batches that it gave so far ... */
    uint64_t refilled;     /* ... and their blocks */
    uint64_t flushes;      /* batches that came back so far ... */
    uint64_t flushed;      /* ... and their blocks: refilled - flushed is live + cached of all classes */
    uint64_t remote_frees; /* of flushed, those that threads of other arenas freed */
    struct cadastre_lock_stats lock;
    struct cadastre_memory mapped; /* of its zones; `caches` has what is outgoing or in quarantine, too */
    struct cadastre_class_stats classes[CADASTRE_CLASSES];
};

/*
 * cadastre_stats (our own): fills the first `size` bytes of *stats. Returns 0; or -1 with errno EINVAL (`size` holds
 * not even the field of that name) or EDEADLK (called where the thread was stopped inside malloc: by a debugger, in a
 * signal handler). Takes time in proportion to the heap.
 */
int cadastre_stats(struct cadastre_stats *stats, size_t size) CADASTRE_NOEXCEPT;

/* cadastre_arena_stats (our own): the same for arena number `arena`, from 0; errno ENOENT beyond the last. */
int cadastre_arena_stats(unsigned arena, struct cadastre_arena_stats *stats, size_t size) CADASTRE_NOEXCEPT;

/*
 * cadastre_resident (our own): what of the mapped bytes is resident, by asking the kernel (mincore) for every page; in
 * proportion. A page that holds several kinds counts for each by the bytes of its own; blocks in `outgoing` are taken
 * to be resident before those in `caches`, as they were just in use. mapped.live - resident.live is live memory that
 * was not touched yet, or is swapped out. A page that was only read counts as resident, and not in the Rss of
 * /proc/self/smaps. Either pointer may be NULL; errors as cadastre_stats.
 */
int cadastre_resident(struct cadastre_memory *mapped, struct cadastre_memory *resident, size_t size) CADASTRE_NOEXCEPT;

/* The layouts: text to read, or one line with a JSON object. */
enum cadastre_format { CADASTRE_TEXT, CADASTRE_JSON };

/*
 * cadastre_stats_print (our own): prints all of the above on file descriptor `fd`. Allocates nothing and holds no lock
 * while it writes. Returns 0; or -1 with errno EINVAL (no such format), EDEADLK, or EIO (the descriptor refused a
 * part).
 *
 * CADASTRE_STATS=exit in the environment prints the text on standard error when the process exits (by exit or by
 * returning from main); CADASTRE_STATS=signal after SIGUSR2, when any thread next needs more than its cache has: the
 * handler itself only notes it, and to print takes 20 KiB of that thread's stack. The signal is left alone if the
 * program has a handler at start, or sets one.
 */
int cadastre_stats_print(int fd, enum cadastre_format format) CADASTRE_NOEXCEPT;

/*
 * malloc_size (macOS): the capacity of `block`, as malloc_usable_size; but 0, without a report, for NULL and for every
 * pointer that is not the start of a live block. malloc_good_size (macOS): the capacity that malloc(size) gives,
 * or for a LARGE block may exceed.
 */
size_t malloc_size(const void *block) CADASTRE_NOEXCEPT;
size_t malloc_good_size(size_t size) CADASTRE_NOEXCEPT;
size_t cadastre_malloc_size(const void *block) CADASTRE_NOEXCEPT;
size_t cadastre_malloc_good_size(size_t size) CADASTRE_NOEXCEPT;

/*
 * The C library's mallinfo2, mallinfo, malloc_info, malloc_stats, malloc_trim and mallopt have the meaning that they
 * have there, as far as there is such a thing here:
 *
 *   mallinfo2   arena     bytes for blocks that are not LARGE, and of free LARGE spans: uordblks + fordblks
 *               uordblks  bytes of live blocks that are not LARGE, by capacity
 *               fordblks  bytes that are free: all kinds of cadastre_memory from caches to idle
 *               ordblks   number of free blocks in slabs, and of free LARGE spans
 *               smblks, fsmblks   number and bytes of blocks in thread caches, those outgoing included
 *               hblks, hblkhd     number and bytes of LARGE blocks, by capacity
 *               keepcost  bytes that malloc_trim could give back at once: retained
 *   malloc_trim(pad)      gives back what is retained and what idle caches hold, whatever `pad` is; 1: there was some
 *   mallopt     M_ARENA_MAX       threads that start from now on are spread over so many arenas
 *               M_TRIM_THRESHOLD  in place of 16 MiB in the bound on what is retained; -1: no bound
 *               M_PERTURB         not yet: returns 0
 *               others            accepted without effect, as there
 */

#undef CADASTRE_NOEXCEPT
#ifdef __cplusplus
}
#endif

#endif
