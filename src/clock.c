#include "clock.h"
#include "syscall.h"
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#if defined(__x86_64__)
#define NAME "__vdso_clock_gettime"
#else
#define NAME "__kernel_clock_gettime"
#endif

typedef long clock_reader(clockid_t clock, struct timespec *time);

static clock_reader *kernel_clock; /* constant after boot; NULL: there is none */

/* ------------------------------------------------------------------------------------- the kernel's function
 * The image is laid out as any shared object. Its table of symbols tells its length by way of a hash table only, of the
 * old kind or of the new. */
struct image {
    uintptr_t base; /* added to the addresses in it */
    const ElfW(Sym) * symbols;
    const char *names;
    size_t count;
};

/* A bucket names its first symbol; the last one of a chain has its lowest bit set. */
static size_t count_by_gnu_hash(const uint32_t *table) {
    uint32_t buckets = table[0], first = table[1], filter_words = table[2];
    const uint32_t *bucket = table + 4 + filter_words * (sizeof(uintptr_t) / sizeof *table);
    const uint32_t *chains = bucket + buckets;
    uint32_t last = 0;
    for (uint32_t i = 0; i < buckets; i++)
        last = bucket[i] > last ? bucket[i] : last;
    if (last < first)
        return first;
    while ((chains[last - first] & 1) == 0)
        last++;
    return last + 1;
}

static void read_dynamic(struct image *image, const ElfW(Dyn) * entry) {
    for (; entry->d_tag != DT_NULL; entry++) {
        const void *at = (const void *)(image->base + entry->d_un.d_ptr);
        if (entry->d_tag == DT_SYMTAB)
            image->symbols = at;
        else if (entry->d_tag == DT_STRTAB)
            image->names = at;
        else if (entry->d_tag == DT_HASH)
            image->count = ((const uint32_t *)at)[1];
        else if (entry->d_tag == DT_GNU_HASH && image->count == 0)
            image->count = count_by_gnu_hash(at);
    }
}

static struct image read_image(uintptr_t start) {
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)start;
    const ElfW(Phdr) *parts = (const ElfW(Phdr) *)(start + header->e_phoff);
    struct image image = {.symbols = NULL};
    for (size_t i = header->e_phnum; i-- > 0;) /* the first that is loaded decides */
        if (parts[i].p_type == PT_LOAD)
            image.base = start + parts[i].p_offset - parts[i].p_vaddr;
    for (size_t i = 0; i < header->e_phnum; i++)
        if (parts[i].p_type == PT_DYNAMIC)
            read_dynamic(&image, (const ElfW(Dyn) *)(start + parts[i].p_offset));
    return image;
}

void clock_boot(void) {
    uintptr_t start = getauxval(AT_SYSINFO_EHDR);
    if (start == 0)
        return;
    struct image image = read_image(start);
    if (image.symbols == NULL || image.names == NULL)
        return;
    for (size_t i = 0; i < image.count; i++)
        if (image.symbols[i].st_shndx != SHN_UNDEF && strcmp(image.names + image.symbols[i].st_name, NAME) == 0)
            kernel_clock = (clock_reader *)(image.base + image.symbols[i].st_value);
}

/* -------------------------------------------------------------------------------------------------- reading */
static struct timespec now(clockid_t clock) {
    struct timespec time = {0};
    if (kernel_clock == NULL || kernel_clock(clock, &time) != 0)
        syscall3(SYS_clock_gettime, clock, (long)&time, 0);
    return time;
}

uint64_t clock_ns(void) {
    struct timespec time = now(CLOCK_MONOTONIC);
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

uint64_t clock_coarse_ms(void) {
    struct timespec time = now(CLOCK_MONOTONIC_COARSE);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}
