#include "os.h"
#include "config.h"
#include "message.h"
#include "syscall.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define MAP_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS)
#define MAP_PROT  (PROT_READ | PROT_WRITE)

static _Atomic size_t mapped_bytes;
static _Atomic size_t mapped_bytes_peak;
static _Atomic size_t purged_bytes; /* so far */

/* The kernel's page size, or CADASTRE_PAGE_SIZE if that is larger: then we do with 4 KiB pages what we would do with
 * such ones. For tests, which so need no machine that has them. */
#ifdef CADASTRE_PAGE_SIZE
#define PAGE_SIZE_MIN ((size_t)CADASTRE_PAGE_SIZE)
#else
#define PAGE_SIZE_MIN ((size_t)0)
#endif

static size_t kernel_page_size; /* constant after os_boot, as the next */
size_t os_page;                 /* where PAGE_SIZE_MIN is 0, the same */
static atomic_int purge_zeroes; /* 0 not known yet, 1 yes, -1 no */

/* ---------------------------------------------------------------------------------------- the raw calls
 * In the sanitizer builds the C library's, whose interceptors keep the shadow memory true. */
#ifdef CADASTRE_SANITIZED
static void *raw_map(void *address, size_t size, int protection, int flags) {
    void *p = mmap(address, size, protection, flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}
static bool raw_unmap(void *address, size_t size) {
    return munmap(address, size) == 0;
}
static bool raw_advise(void *address, size_t size, int advice) {
    return madvise(address, size, advice) == 0;
}
static bool raw_protect(void *address, size_t size, int protection) {
    return mprotect(address, size, protection) == 0;
}
static void *raw_remap(void *address, size_t old_size, size_t new_size, int flags, void *to) {
    void *p = mremap(address, old_size, new_size, flags, to);
    return p == MAP_FAILED ? NULL : p;
}
#else
static bool is_error(long result) {
    return (unsigned long)result > -4096UL;
}
static void *raw_map(void *address, size_t size, int protection, int flags) {
    long p = syscall6(SYS_mmap, (long)address, (long)size, protection, flags, -1, 0);
    return is_error(p) ? NULL : (void *)p;
}
static bool raw_unmap(void *address, size_t size) {
    return syscall3(SYS_munmap, (long)address, (long)size, 0) == 0;
}
static bool raw_advise(void *address, size_t size, int advice) {
    return syscall3(SYS_madvise, (long)address, (long)size, advice) == 0;
}
static bool raw_protect(void *address, size_t size, int protection) {
    return syscall3(SYS_mprotect, (long)address, (long)size, protection) == 0;
}
static void *raw_remap(void *address, size_t old_size, size_t new_size, int flags, void *to) {
    long p = syscall6(SYS_mremap, (long)address, (long)old_size, (long)new_size, flags, (long)to, 0);
    return is_error(p) ? NULL : (void *)p;
}
#endif

/* ---------------------------------------------------------------------------------------------- mappings */
static void account_mapped(size_t size) {
    size_t now = add_relaxed(&mapped_bytes, size) + size;
    size_t peak = load_relaxed(&mapped_bytes_peak);
    while (now > peak && !atomic_compare_exchange_weak_explicit(&mapped_bytes_peak, &peak, now, memory_order_relaxed,
                                                                memory_order_relaxed))
        ;
}

/* Of what is not needed. What the kernel does not take back (it has no mapping left to split another with) is lost, and
 * stays in the count. */
static void trim(void *address, size_t size) {
    if (size > 0 && !raw_unmap(address, size))
        account_mapped(size);
}

#define IS_OF_PAGES(address, size) ((((uintptr_t)(address) | (size)) & (os_page - 1)) == 0)

/* `alignment` is a power of two, of the kernel's page at least. */
static void *map_aligned(size_t size, size_t alignment, int protection) {
    size_t extra = alignment - kernel_page_size;
    if (size + extra < size)
        return NULL;
    char *p = raw_map(NULL, size + extra, protection, MAP_FLAGS);
    if (p == NULL || extra == 0)
        return p;
    char *start = (char *)round_up((uintptr_t)p, alignment);
    size_t head = (size_t)(start - p);
    trim(p, head);
    trim(start + size, extra - head);
    return start;
}

void *os_map_aligned(size_t size, size_t alignment) {
    ASSERT(IS_OF_PAGES(NULL, size));
    void *p = map_aligned(size, max_size(alignment, os_page), MAP_PROT);
    account_mapped(p == NULL ? 0 : size);
    return p;
}

void *os_map(size_t size) {
    return os_map_aligned(size, os_page);
}

/* Where pages are locked, all were made resident when they were mapped; there advice to purge is refused. */
void *os_map_sparse(size_t size) {
    void *p = os_map(size);
    if (p == NULL)
        return NULL;
    os_avoid_huge_pages(p, size);
    if (raw_advise(p, size, MADV_DONTNEED))
        return p;
    sub_relaxed(&mapped_bytes, size);
    trim(p, size);
    return NULL;
}

bool os_has_room(size_t size) {
    void *p = raw_map(NULL, size, MAP_PROT, MAP_FLAGS);
    if (p != NULL)
        trim(p, size);
    return p != NULL;
}

void *os_map_at(void *address, size_t size) {
    ASSERT(IS_OF_PAGES(address, size));
    void *p = raw_map(address, size, MAP_PROT, MAP_FLAGS | MAP_FIXED_NOREPLACE);
    if (p != NULL && p != address) { /* kernels before 4.17 take the address for a wish */
        trim(p, size);
        return NULL;
    }
    account_mapped(p == NULL ? 0 : size);
    return p;
}

bool os_unmap(void *address, size_t size) {
    ASSERT(IS_OF_PAGES(address, size));
    if (!raw_unmap(address, size))
        return false;
    sub_relaxed(&mapped_bytes, size);
    return true;
}

void *os_borrow(size_t size) {
    ASSERT(IS_OF_PAGES(NULL, size));
    return map_aligned(size, os_page, MAP_PROT);
}

void os_return(void *address, size_t size) {
    ASSERT(IS_OF_PAGES(address, size));
    trim(address, size);
}

bool os_guard(void *address, size_t size) {
    ASSERT(IS_OF_PAGES(address, size));
    return raw_protect(address, size, PROT_NONE);
}

bool os_unguard(void *address, size_t size) {
    ASSERT(IS_OF_PAGES(address, size));
    return raw_protect(address, size, MAP_PROT);
}

/* Mapped inaccessible, then opened but for its first and last page; where that is refused, mapped open as a whole. */
static char *map_between_guards(size_t size) {
    size_t whole = size + os_own_guards();
    char *p = map_aligned(whole, os_page, PROT_NONE);
    if (p == NULL || raw_protect(p + os_page, size, MAP_PROT))
        return p;
    trim(p, whole);
    return map_aligned(whole, os_page, MAP_PROT);
}

void *os_map_own(size_t size) {
    ASSERT(IS_OF_PAGES(NULL, size));
    char *p = map_between_guards(size);
    if (p == NULL)
        return NULL;
    account_mapped(size + os_own_guards());
    os_avoid_huge_pages(p + os_page, size);
    return p + os_page;
}

bool os_unmap_own(void *address, size_t size) {
    return os_unmap((char *)address - os_page, size + os_own_guards());
}

bool os_resize(void *address, size_t old_size, size_t new_size) {
    ASSERT(IS_OF_PAGES(address, old_size | new_size));
    if (raw_remap(address, old_size, new_size, 0, NULL) == NULL)
        return false;
    if (new_size > old_size)
        account_mapped(new_size - old_size);
    else
        sub_relaxed(&mapped_bytes, old_size - new_size);
    return true;
}

/* To where the kernel likes; or, where its pages are not as large as ours, onto a mapping that is made for it. */
static void *move(void *address, size_t old_size, size_t new_size) {
    if (os_page == kernel_page_size)
        return raw_remap(address, old_size, new_size, MREMAP_MAYMOVE, NULL);
    void *room = map_aligned(new_size, os_page, MAP_PROT);
    /* A refusal may have unmapped the room, and it be another thread's by now: it is left as it is. */
    return room == NULL ? NULL : raw_remap(address, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, room);
}

void *os_move(void *address, size_t old_size, size_t new_size) {
    ASSERT(IS_OF_PAGES(address, old_size | new_size));
    void *p = move(address, old_size, new_size);
    if (p == NULL)
        return NULL;
    sub_relaxed(&mapped_bytes, old_size);
    account_mapped(new_size);
    return p;
}

/* A page to try it on, a byte for each try: one that is mapped for that might be refused, as purges come when memory is
 * out. */
SPARSE static char trial[2 * UNIT_SIZE];
static _Atomic size_t tries;

/* Whether MADV_DONTNEED does what its name says: emulators have been seen to answer 0 and do nothing. Tried at the
 * first purge, and again if that was refused. Two threads may try at once, and get the same answer. */
static bool purge_is_known_to_zero(void) {
    int known = load_relaxed(&purge_zeroes);
    if (UNLIKELY(known == 0)) {
        char *page = (char *)round_up((uintptr_t)trial, os_page);
        _Atomic char *byte = (_Atomic char *)&page[add_relaxed(&tries, 1) % os_page];
        store_relaxed(byte, 1);
        if (raw_advise(page, os_page, MADV_DONTNEED)) {
            known = load_relaxed(byte) == 0 ? 1 : -1;
            store_relaxed(&purge_zeroes, known);
        }
    }
    return known > 0;
}

bool os_purge(void *address, size_t size) {
    ASSERT(IS_OF_PAGES(address, size));
    if (!purge_is_known_to_zero() || !raw_advise(address, size, MADV_DONTNEED))
        return false;
    add_relaxed(&purged_bytes, size);
    return true;
}

/* ------------------------------------------------------------------------------------------- the machine */
size_t os_read_file(const char *path, char *buffer, size_t capacity) {
    buffer[0] = '\0';
    long fd = syscall4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    size_t length = 0;
    while (length + 1 < capacity) {
        long n = syscall3(SYS_read, fd, (long)(buffer + length), (long)(capacity - 1 - length));
        if (n == -EINTR)
            continue;
        if (n <= 0)
            break;
        length += (size_t)n;
    }
    syscall3(SYS_close, fd, 0, 0);
    buffer[length] = '\0';
    return length;
}

void os_boot(void) {
    kernel_page_size = getauxval(AT_PAGESZ);
    os_page = max_size(kernel_page_size, PAGE_SIZE_MIN);
}

void os_avoid_huge_pages(void *address, size_t size) {
    ASSERT(IS_OF_PAGES(address, size));
    raw_advise(address, size, MADV_NOHUGEPAGE);
}

static size_t parse_number(const char **at) {
    size_t value = 0;
    while (**at >= '0' && **at <= '9')
        value = value * 10 + (size_t)(*(*at)++ - '0');
    return value;
}

/* CPUs' worth of time that a group of processes may use (cgroup v2), rounded up; 0: no bound, or no such file. */
static unsigned read_quota(const char *path) {
    char line[64]; /* "max 100000" or "150000 100000" */
    const char *at = line;
    os_read_file(path, line, sizeof line);
    size_t quota = parse_number(&at);
    at += *at == ' ';
    size_t period = parse_number(&at);
    return quota == 0 || period == 0 ? 0 : (unsigned)((quota + period - 1) / period);
}

#define GROUPS "/sys/fs/cgroup"

/* What a container sees as the root is its own group. Elsewhere /proc says which one is ours, and takes as long for it
 * as the rest of boot: where groups are of version 1 it is not asked. */
static NOINLINE unsigned read_cgroup_quota(void) {
    char groups[512];
    char path[sizeof GROUPS + sizeof groups + sizeof "/cpu.max"] = GROUPS;
    if (syscall3(SYS_faccessat, AT_FDCWD, (long)GROUPS "/cgroup.controllers", R_OK) != 0)
        return 0;
    unsigned quota = read_quota(GROUPS "/cpu.max");
    if (quota != 0)
        return quota;
    os_read_file("/proc/self/cgroup", groups, sizeof groups);
    char *own = groups;
    for (; strncmp(own, "0::/", 4) != 0; own++)
        if ((own = strchr(own, '\n')) == NULL)
            return 0;
    own += strlen("0::");
    size_t length = strcspn(own, "\n");
    memcpy(path + strlen(GROUPS), own, length);
    memcpy(path + strlen(GROUPS) + length, "/cpu.max", sizeof "/cpu.max");
    return read_quota(path);
}

static NOINLINE unsigned count_affine(void) {
    uint64_t mask[128] = {0}; /* 8,192 CPUs, the kernel's most */
    long bytes = syscall3(SYS_sched_getaffinity, 0, sizeof mask, (long)mask);
    unsigned count = 0;
    for (long i = 0; i < bytes / 8; i++)
        count += (unsigned)__builtin_popcountll(mask[i]);
    return count;
}

/* Both have buffers, which are not to be on the stack at once. */
unsigned os_cpu_count(void) {
    unsigned count = count_affine();
    unsigned quota = read_cgroup_quota();
    if (quota != 0 && quota < count)
        count = quota;
    return count == 0 ? 1 : count;
}

static size_t read_limit(int resource) {
    struct rlimit limit;
    if (syscall4(SYS_prlimit64, 0, resource, 0, (long)&limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return SIZE_MAX;
    return limit.rlim_cur;
}

size_t os_memory_limit(void) {
    return min_size(read_limit(RLIMIT_AS), read_limit(RLIMIT_DATA));
}

size_t os_mapped(void) {
    return load_relaxed(&mapped_bytes);
}

size_t os_mapped_peak(void) {
    return load_relaxed(&mapped_bytes_peak);
}

size_t os_purged(void) {
    return load_relaxed(&purged_bytes);
}

static void look_up_resident(const void *address, size_t size, unsigned char *pages) {
    if (syscall3(SYS_mincore, (long)address, (long)size, (long)pages) != 0)
        memset(pages, 0, (size + kernel_page_size - 1) / kernel_page_size);
}

void os_look_up_resident(const void *address, size_t size, unsigned char *pages) {
    if (os_page == kernel_page_size) {
        look_up_resident(address, size, pages);
        return;
    }
    /* A page is resident if one of the kernel's in it is. */
    const char *page = address;
    for (size_t i = 0; i < size; i += kernel_page_size) {
        unsigned char part;
        look_up_resident(page + i, kernel_page_size, &part);
        pages[i / os_page] = (unsigned char)((i % os_page == 0 ? 0 : pages[i / os_page]) | part);
    }
}
