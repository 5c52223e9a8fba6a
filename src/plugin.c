/*
 * In the archive only, for a library that has it inside and that a program opens and closes. The C library will call
 * functions of ours at exit, at the end of threads and at fork, and blocks of ours outlive the library: so what holds
 * the archive stays once it is there, as the shared object does by -z nodelete.
 */
#include "base.h"
#include <dlfcn.h>
#include <link.h>

/* Of the C libraries only glibc takes a library away. A static program has neither of these two; and if dlopen stood
 * here by its name, the linker would warn whoever builds such a program. */
#if defined(__GLIBC__)
extern __typeof__(dladdr1) dladdr1 __attribute__((weak));
extern __typeof__(dlsym) dlsym __attribute__((weak));

typedef void *opener(const char *, int);

__attribute__((constructor(101))) static void stay(void) {
    Dl_info info;
    void *map = NULL;
    if (dladdr1 == NULL || dlsym == NULL || dladdr1((void *)stay, &info, &map, RTLD_DL_LINKMAP) == 0 || map == NULL)
        return;
    const char *path = ((const struct link_map *)map)->l_name;
    opener *open = (opener *)dlsym(RTLD_DEFAULT, "dlopen");
    if (path[0] != '\0' && open != NULL) /* else it is the program itself */
        open(path, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}
#endif
