/*
 * dlopen and dlmopen without RTLD_DEEPBIND, in the shared object only. A library that is opened with it looks for
 * malloc and free in the C library first, past whatever was preloaded or linked, and sooner or later frees a block of
 * ours there, or the other way round: PHP's extensions do. Other names, too, are then looked for in the program first,
 * as without the mode; who needs it for them says CADASTRE_DEEPBIND=keep.
 */
#include "options.h"
#include "process.h"
#include <dlfcn.h>

/* Other C libraries than glibc have no such mode. */
#if defined(RTLD_DEEPBIND) && !defined(CADASTRE_PREFIXED)

typedef void *opener(const char *, int);
typedef void *namespace_opener(Lmid_t, const char *, int);

static int without_deepbind(int mode) {
    process_enter(); /* which reads the options */
    return option_value(OPTION_DEEPBIND) == DEEPBIND_KEEP ? mode : mode & ~RTLD_DEEPBIND;
}

/* A tail call: where the library is looked for depends on who calls. */
PUBLIC void *dlopen(const char *file, int mode) {
    opener *next = (opener *)dlsym(RTLD_NEXT, "dlopen");
    if ((mode & RTLD_DEEPBIND) != 0)
        mode = without_deepbind(mode);
    return next == NULL ? NULL : next(file, mode);
}

/* The same. In a namespace of its own a library has a C library of its own as well. */
PUBLIC void *dlmopen(Lmid_t space, const char *file, int mode) {
    namespace_opener *next = (namespace_opener *)dlsym(RTLD_NEXT, "dlmopen");
    if (space == LM_ID_BASE && (mode & RTLD_DEEPBIND) != 0)
        mode = without_deepbind(mode);
    return next == NULL ? NULL : next(space, file, mode);
}

#endif
