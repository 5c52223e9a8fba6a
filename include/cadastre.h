/*
 * cadastre: a multi-arena malloc that keeps an exact register of every live block.
 *
 * The malloc family is exported twice: under the standard names, which replace the C library's when
 * libcadastre is preloaded or linked, and under cadastre_* names, which are always ours.
 *
 * Unless a declaration says otherwise, every function here
 *   - is thread-safe, and not async-signal-safe (POSIX.1-2017, 2.4.3);
 *   - sets errno to ENOMEM when it returns NULL for want of memory, and leaves it alone on success;
 *   - takes and gives sizes and alignments in bytes;
 *   - has at most 4 KiB of the calling thread's stack in frames of ours (gcc, without sanitizers), and so works on the
 *     smallest that a thread can have. The figures, show_alloc_mem_ex and show_alloc_mem_map need more: they map it for
 *     the length of the call. Where there is no memory for that, one of them at a time works all the same; another does
 *     nothing but say so in a line on stderr, with errno ENOMEM.
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

/* calloc (C11 7.22.3.2): count * size zero bytes, and zeros in what the block holds beyond. A product that overflows
 * fails with ENOMEM. */
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

/* memalign (glibc): as aligned_alloc, but an alignment that is no power of two is rounded up to one; where there is
 * none, above SIZE_MAX / 2 + 1, it fails with EINVAL. */
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

/* C23's names, which older C libraries do not declare. Where the program defines a free of its own they are that. */
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

/* show_alloc_memory (our own): show_alloc_mem under another name. */
void show_alloc_memory(void) CADASTRE_NOEXCEPT;

/* TINY to 1,024 bytes and SMALL to 64 KiB lie in zones that arenas own; LARGE ones are mappings of their own. */
enum cadastre_category { CADASTRE_TINY, CADASTRE_SMALL, CADASTRE_LARGE };

/* A live block. The library makes it and the caller reads it: later versions may add fields at the end. */
typedef struct cadastre_block {
    void *address;
    size_t size;     /* requested */
    size_t capacity; /* all of it usable (malloc_usable_size), but with CADASTRE_CANARIES */
    enum cadastre_category category;
    int arena;  /* that owns it; -1 for LARGE */
    void *zone; /* start of the zone, or of the LARGE mapping, that it lies in */
} cadastre_block;

/*
 * cadastre_walk (our own): calls `visit` with `argument` for every live block, all arenas and LARGE merged in address
 * order, and goes on while it returns 0; else it stops and returns the same. Returns 0 when it came to the end.
 * Exact while other threads allocate: a block that is live during the whole call is visited once, one that is free
 * during the whole call is not; one that another thread frees meanwhile may be visited, so that its bytes are to be
 * read only when the program knows that it stays. No lock is held meanwhile: `visit` may allocate and free (blocks of
 * its own that come to be during the call are visited or not), walk again, and leave by longjmp or an exception. Below
 * it are 2 KiB of ours on the stack, and nothing else that a way out could leave behind.
 * Called where the thread was stopped inside malloc (by a debugger, in a signal handler) it visits nothing, says so in
 * a line on stderr and returns -1 with errno EDEADLK; otherwise errno is as `visit` leaves it.
 */
int cadastre_walk(int (*visit)(void *argument, const cadastre_block *block), void *argument);

/* The layouts of show_alloc_mem_ex: text to read, or a JSON object on each line. */
enum cadastre_format { CADASTRE_TEXT, CADASTRE_JSON };

/* What show_alloc_mem_ex shows. */
enum cadastre_show_what {
    CADASTRE_SHOW_ZONES = 1,   /* zones and LARGE mappings, and for each zone what is in it; empty and kept ones too */
    CADASTRE_SHOW_SLABS = 2,   /* in each zone, its slabs */
    CADASTRE_SHOW_BLOCKS = 4,  /* live blocks */
    CADASTRE_SHOW_TOTALS = 8,  /* the number and bytes of all live blocks that the filters let through */
    CADASTRE_SHOW_HISTORY = 16 /* the last events that the filters let through, if CADASTRE_HISTORY is on */
};

/* What to show, and where. Zero in a field asks for what stands in its comment, or sets no limit. */
struct cadastre_show {
    size_t size;                 /* sizeof(struct cadastre_show): later versions add fields at the end */
    int fd;                      /* file descriptor; 0: standard output */
    enum cadastre_format format; /* CADASTRE_TEXT */
    unsigned what;               /* of enum cadastre_show_what, or'ed; 0: all of it */
    unsigned categories;         /* 1u << CADASTRE_TINY and so on, or'ed; 0: all */
    uint64_t arenas;             /* UINT64_C(1) << n for arena n, or'ed; 0: all, and LARGE, which belongs to none */
    size_t size_min;             /* only blocks of that many requested bytes ... */
    size_t size_max;             /* ... to that many */
    const void *from;            /* only what has a byte in [from, to), or is empty and starts there */
    const void *to;
    size_t hexdump; /* that many of each block's first bytes, never more than were requested */
};

/*
 * show_alloc_mem_ex (our own): show_alloc_mem at any length, as `what` says; NULL: all fields zero. Per zone and slab
 * it tells the arena, the class (capacity of its blocks), how many blocks are live, cached by threads, and free, and
 * the fragmentation: the part of the slabs' bytes that lies in free blocks. The filters by category, arena and address
 * hold for everything, that by size for blocks, events and the total.
 *
 * Exact as show_alloc_mem is. A block's bytes are shown only if it is found live, with the same size, after they were
 * read: else another thread has freed it meanwhile, and it is left out. They are read by the kernel (process_vm_readv,
 * to this process), so that one which is unmapped just then is no fault; where a sandbox forbids that, the blocks are
 * shown without their bytes. Bytes that the program is writing just then may be shown half written.
 *
 * Returns 0; or -1 with errno EINVAL (`what` has an unknown size, format or flag: nothing is shown), EIO (the
 * descriptor refused a part), ENOMEM, or EDEADLK (called where the thread was stopped inside malloc: as cadastre_walk).
 * Allocates nothing and holds no lock while it writes.
 */
int show_alloc_mem_ex(const struct cadastre_show *what) CADASTRE_NOEXCEPT;

/*
 * show_alloc_mem_map (our own): a picture of the heap on the file descriptor `fd`: for each zone its units of 64 KiB as
 * one character each, in two rows of 64, by how much of each is live; LARGE mappings summed up; and a legend. In
 * colours when `fd` is a terminal, unless the environment has NO_COLOR (not empty) or TERM=dumb. Returns 0; or -1 with
 * errno EIO, ENOMEM or EDEADLK, as show_alloc_mem_ex. Exact unit by unit; allocates nothing and holds no lock while it
 * writes.
 */
int show_alloc_mem_map(int fd) CADASTRE_NOEXCEPT;

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
 * or CHECK_EACH, and no debugging mode was on at start), EINVAL (malformed, or out of bounds) or ENOSPC (a process can
 * set an option to at most 15 different paths in its life).
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
    uint64_t retired;    /* spans of freed LARGE blocks that threads keep for their next */
    uint64_t free;       /* free blocks of slabs */
    uint64_t tails;      /* of slabs: what is too short for a block */
    uint64_t quarantine; /* freed blocks that the quarantine holds back */
    uint64_t retained;   /* empty slabs and LARGE spans, kept for the next; bounded (see the manual) */
    uint64_t idle;       /* addresses without memory: not used yet, or given back; resident if it was refused */
    uint64_t headers;    /* of zones: where the register of their blocks stands */
    uint64_t guards;     /* of zones and of the four below; with CADASTRE_GUARD of LARGE blocks: cannot be touched */
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
    uint64_t swing; /* bytes that may be retained beyond the bound: purged before, and wanted again at once */
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
 * not even the field of that name), ENOMEM, or EDEADLK (called where the thread was stopped inside malloc: by a
 * debugger, in a signal handler). Takes time in proportion to the heap.
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

/*
 * cadastre_stats_print (our own): prints all of the above on file descriptor `fd`. Allocates nothing and holds no lock
 * while it writes. Returns 0; or -1 with errno EINVAL (no such format), EDEADLK, ENOMEM, or EIO (the descriptor refused
 * a part).
 *
 * CADASTRE_STATS=exit in the environment prints the text on standard error when the process exits (by exit or by
 * returning from main); CADASTRE_STATS=signal after SIGUSR2, when any thread next needs more than its cache has: the
 * handler itself only notes it. The signal is left alone if the program has a handler at start, or sets one.
 */
int cadastre_stats_print(int fd, enum cadastre_format format) CADASTRE_NOEXCEPT;

/*
 * malloc_size (macOS): the capacity of `block`, as malloc_usable_size; but 0, without a report, for NULL and for every
 * pointer that is not the start of a live block. malloc_good_size (macOS): the capacity of what malloc(size) gives;
 * a LARGE block often has more.
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
 *   malloc_info returns EAGAIN where the thread was stopped inside malloc, and ENOMEM; it is no cancellation point
 *   malloc_stats          the most "mmap" regions and bytes count LARGE blocks, those that threads keep for themselves
 *                         among them
 *   malloc_trim(pad)      gives back what is retained and what idle caches hold, whatever `pad` is; 1: there was some
 *   mallopt     M_ARENA_MAX       threads that start from now on are spread over so many arenas
 *               M_TRIM_THRESHOLD  in place of 8 MiB in the bound on what is retained, which swings no longer exceed;
 *                                 -1: no bound, but that idle memory still goes before the process uses more than it
 *                                 ever did
 *               M_PERTURB         as CADASTRE_PERTURB; 0, and nothing is done, if no debugging mode was on at start
 *               others            accepted without effect, as there
 */

#undef CADASTRE_NOEXCEPT
#ifdef __cplusplus
}
#endif

#endif
