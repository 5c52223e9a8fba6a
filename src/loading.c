/*
 * dlopen without RTLD_DEEPBIND, in the shared object only. A library that is opened with it looks for malloc and free
 * in the C library first, past whatever was preloaded or linked, and sooner or later frees a block of ours there, or
 * the other way round: PHP's extensions do. Nobody can have asked for that.
 */
#include "base.h"
#include <dlfcn.h>

/* Other C libraries than glibc have no such mode. */
#if defined(RTLD_DEEPBIND) && !defined(CADASTRE_PREFIXED)

typedef void *opener(const char *, int);

/* A tail call: where the library is looked for depends on who calls. */
PUBLIC void *dlopen(const char *file, int mode) {
    opener *next = (opener *)dlsym(RTLD_NEXT, "dlopen");
    return next == NULL ? NULL : next(file, mode & ~RTLD_DEEPBIND);
}

#endif
