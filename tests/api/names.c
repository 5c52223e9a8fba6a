/*
 * Every name that gives memory out or takes it back is the library's, whichever way a program reaches it; and blocks
 * of one family's names may be given back through the other's.
 */
#include "cadastre.h"
#include "tap.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <netdb.h>

void *pvalloc(size_t); /* which musl does not declare */

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const names[] = {
    "malloc", "free", "calloc", "realloc", "reallocarray", "memalign", "aligned_alloc", "posix_memalign", "valloc",
    "pvalloc", "malloc_usable_size", "free_sized", "free_aligned_sized",
    /* the same again as cadastre_* */
    "cadastre_malloc", "cadastre_free", "cadastre_calloc", "cadastre_realloc", "cadastre_reallocarray",
    "cadastre_memalign", "cadastre_aligned_alloc", "cadastre_posix_memalign", "cadastre_valloc", "cadastre_pvalloc",
    "cadastre_malloc_usable_size", "cadastre_free_sized", "cadastre_free_aligned_sized",
    /* the other names of glibc's */
    "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_free", "__libc_memalign", "__libc_valloc",
    "__libc_pvalloc", "__posix_memalign", "show_alloc_mem"};

static int is_ours(void *address) {
    Dl_info info;
    if (!address || !dladdr(address, &info))
        return 0;
    const char *slash = strrchr(info.dli_fname, '/');
    return strncmp(slash ? slash + 1 : info.dli_fname, "libcadastre.so", 14) == 0;
}

static void every_name_is_ours(void) {
    for (size_t i = 0; i < COUNT(names); i++)
        ok(is_ours(dlsym(RTLD_DEFAULT, names[i])), "%s is the library's", names[i]);
}

/* One family of names, to be mixed with another. */
struct family {
    const char *name;
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    void (*free)(void *);
};

static struct family libc_family(void) {
    struct family family = {.name = "__libc_*"};
    *(void **)&family.malloc = dlsym(RTLD_DEFAULT, "__libc_malloc");
    *(void **)&family.calloc = dlsym(RTLD_DEFAULT, "__libc_calloc");
    *(void **)&family.realloc = dlsym(RTLD_DEFAULT, "__libc_realloc");
    *(void **)&family.memalign = dlsym(RTLD_DEFAULT, "__libc_memalign");
    *(void **)&family.posix_memalign = dlsym(RTLD_DEFAULT, "__posix_memalign");
    *(void **)&family.valloc = dlsym(RTLD_DEFAULT, "__libc_valloc");
    *(void **)&family.pvalloc = dlsym(RTLD_DEFAULT, "__libc_pvalloc");
    *(void **)&family.free = dlsym(RTLD_DEFAULT, "__libc_free");
    return family;
}

/* Whether `block` is good for `size` bytes at a multiple of `alignment`. */
static int is_good(void *block, size_t alignment, size_t size) {
    if (!block || (uintptr_t)block % alignment != 0 || cadastre_malloc_usable_size(block) < size)
        return 0;
    memset(block, 0x5a, size);
    return 1;
}

static void families_mix(const struct family *from, const struct family *to) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    static const size_t sizes[] = {0, 1, 100, 1024, 1025, 30000, 65536, 65537, 1 << 20};
    int good = 1;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t size = sizes[i];
        void *blocks[8] = {from->malloc(size),
                           from->calloc(1, size),
                           from->realloc(from->malloc(7), size + 1),
                           from->memalign(256, size),
                           NULL,
                           from->valloc(size),
                           from->pvalloc(size),
                           from->malloc(size)};
        static const size_t alignments[8] = {16, 16, 16, 256, 512, 0, 0, 16};
        good &= from->posix_memalign(&blocks[4], 512, size) == 0;
        blocks[7] = to->realloc(blocks[7], size + 3000);
        for (size_t j = 0; j < COUNT(blocks); j++) {
            good &= is_good(blocks[j], alignments[j] ? alignments[j] : page, size);
            to->free(blocks[j]);
        }
    }
    ok(good, "blocks of %s given back through %s", from->name, to->name);
}

static void c_library_uses_ours(void) {
    char *copy = strdup("cadastre"), *formatted = NULL, *line = NULL, *stream = NULL, *path = realpath("/", NULL);
    char *word = NULL;
    size_t line_size = 0, stream_size = 0;
    struct addrinfo *addresses = NULL, numeric = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct dirent **entries = NULL;
    int length = asprintf(&formatted, "%d", 42), words = sscanf("word", "%ms", &word);
    int count = scandir("/proc/self/fd", &entries, NULL, NULL);
    FILE *file = fopen("/proc/self/status", "r"), *memory = open_memstream(&stream, &stream_size);
    ok(getline(&line, &line_size, file) > 0, "getline reads a line");
    fputs("some text", memory);
    fclose(memory);
    fclose(file);
    ok(getaddrinfo("127.0.0.1", "80", &numeric, &addresses) == 0, "getaddrinfo knows an address");
    int ours = length == 2 && words == 1 && count > 0 && cadastre_malloc_usable_size(addresses) > 0;
    freeaddrinfo(addresses);
    for (int i = 0; i < count; i++) {
        ours &= cadastre_malloc_usable_size(entries[i]) > 0;
        free(entries[i]);
    }
    void *blocks[] = {copy, formatted, line, stream, path, word, entries, getcwd(NULL, 0)};
    for (size_t i = 0; i < COUNT(blocks); i++) {
        ours &= cadastre_malloc_usable_size(blocks[i]) > 0;
        free(blocks[i]);
    }
    ok(ours, "what strdup, asprintf, getline, open_memstream, getaddrinfo, realpath, ... return is the library's");
}

int main(void) {
    every_name_is_ours();
    struct family plain = {"the standard names", malloc, calloc,  realloc, memalign,
                           posix_memalign,       valloc, pvalloc, free};
    struct family ours = {"cadastre_*",     cadastre_malloc,   cadastre_calloc,
                          cadastre_realloc, cadastre_memalign, cadastre_posix_memalign,
                          cadastre_valloc,  cadastre_pvalloc,  cadastre_free};
    struct family libc = libc_family();
    const struct family *families[] = {&plain, &ours, &libc};
    if (!libc.malloc || !libc.calloc || !libc.realloc || !libc.memalign || !libc.posix_memalign || !libc.valloc ||
        !libc.pvalloc || !libc.free)
        return tap_done();
    for (size_t i = 0; i < COUNT(families); i++)
        for (size_t j = 0; j < COUNT(families); j++)
            families_mix(families[i], families[j]);
    c_library_uses_ours();
    return tap_done();
}
