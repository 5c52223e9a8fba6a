/*
 * C++'s operator new and delete, in the shared object only. Without them a program linked with another allocator that
 * has operators of its own would get its memory there and free it here. (A static link has the C++ library's, which
 * call malloc and free: ours.)
 *
 * They are C functions under the names that the Itanium C++ ABI gives the operators, so that we depend on no C++
 * library. What only that can do, asking for the new-handler and throwing std::bad_alloc, is left to the one that the
 * program has.
 */
#include "cadastre.h"
#include "message.h"
#include "names.h"
#include <dlfcn.h>

#ifndef CADASTRE_PREFIXED

typedef void (*handler)(void);

/* std::get_new_handler() and std::__throw_bad_alloc(), which libstdc++ and libc++ both have; weak, for C programs. */
extern handler get_new_handler(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));
extern _Noreturn void throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));

/* Function `name` of a C++ library that the program has loaded where we do not see it, with a plugin. Allocates. */
static void *find_in_runtime(const char *name) {
    static const char *const libraries[] = {"libstdc++.so.6", "libc++.so.1"};
    void *function = NULL;
    for (size_t i = 0; function == NULL && i < sizeof libraries / sizeof *libraries; i++) {
        void *library = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
        if (library == NULL)
            continue;
        function = dlsym(library, name);
        dlclose(library);
    }
    return function;
}

static handler current_handler(void) {
    handler (*get)(void) = get_new_handler;
    if (get == NULL)
        get = (handler(*)(void))find_in_runtime("_ZSt15get_new_handlerv");
    return get == NULL ? NULL : get();
}

static _Noreturn COLD void fail(void) {
    void (*raise)(void) = throw_bad_alloc;
    if (raise == NULL)
        raise = (void (*)(void))find_in_runtime("_ZSt17__throw_bad_allocv");
    if (raise != NULL)
        raise();
    message_die("operator new: out of memory, and no C++ library in sight that could throw std::bad_alloc");
}

/* alignment 0: none is asked for. */
INLINE void *take(size_t alignment, size_t size) {
    return alignment == 0 ? cadastre_malloc(size) : cadastre_aligned_alloc(alignment, size);
}

/* What the standard asks of a failed request (C++17, 21.6.2.1): the handler is called until there is memory, or none
 * is installed. It may throw: these frames hold nothing. */
static COLD void *retry(size_t alignment, size_t size) {
    handler handle;
    void *block = NULL;
    while (block == NULL && (handle = current_handler()) != NULL) {
        handle();
        block = take(alignment, size);
    }
    return block;
}

static COLD void *retry_or_throw(size_t alignment, size_t size) {
    void *block = retry(alignment, size);
    if (block == NULL)
        fail();
    return block;
}

/* By the ABI's names: nw new, na new[], dl delete, da delete[]; then the types of the parameters. */
#define OPERATOR(result, name, ...)                                                                                    \
    PUBLIC result name(__VA_ARGS__);                                                                                   \
    result name(__VA_ARGS__)

#define OPERATOR_NEW(name, alignment, on_failure, ...)                                                                 \
    OPERATOR(void *, name, __VA_ARGS__) {                                                                              \
        void *block = take(alignment, size);                                                                           \
        return LIKELY(block != NULL) ? block : on_failure(alignment, size);                                            \
    }

#define OPERATOR_DELETE(name, ...)                                                                                     \
    OPERATOR(void, name, void *block, ##__VA_ARGS__) {                                                                 \
        cadastre_free(block);                                                                                          \
    }

#define UNUSED __attribute__((unused))

OPERATOR_NEW(_Znwm, 0, retry_or_throw, size_t size)
OPERATOR_NEW(_Znam, 0, retry_or_throw, size_t size)
OPERATOR_NEW(_ZnwmRKSt9nothrow_t, 0, retry, size_t size, UNUSED const void *nothrow)
OPERATOR_NEW(_ZnamRKSt9nothrow_t, 0, retry, size_t size, UNUSED const void *nothrow)
OPERATOR_NEW(_ZnwmSt11align_val_t, align, retry_or_throw, size_t size, size_t align)
OPERATOR_NEW(_ZnamSt11align_val_t, align, retry_or_throw, size_t size, size_t align)
OPERATOR_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, align, retry, size_t size, size_t align, UNUSED const void *nothrow)
OPERATOR_NEW(_ZnamSt11align_val_tRKSt9nothrow_t, align, retry, size_t size, size_t align, UNUSED const void *nothrow)

/* A size or an alignment is what the program's types say, and not checked: deleting by way of a base is common. */
OPERATOR_DELETE(_ZdlPv)
OPERATOR_DELETE(_ZdaPv)
OPERATOR_DELETE(_ZdlPvm, UNUSED size_t size)
OPERATOR_DELETE(_ZdaPvm, UNUSED size_t size)
OPERATOR_DELETE(_ZdlPvRKSt9nothrow_t, UNUSED const void *nothrow)
OPERATOR_DELETE(_ZdaPvRKSt9nothrow_t, UNUSED const void *nothrow)
OPERATOR_DELETE(_ZdlPvSt11align_val_t, UNUSED size_t align)
OPERATOR_DELETE(_ZdaPvSt11align_val_t, UNUSED size_t align)
OPERATOR_DELETE(_ZdlPvmSt11align_val_t, UNUSED size_t size, UNUSED size_t align)
OPERATOR_DELETE(_ZdaPvmSt11align_val_t, UNUSED size_t size, UNUSED size_t align)
OPERATOR_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, UNUSED size_t align, UNUSED const void *nothrow)
OPERATOR_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, UNUSED size_t align, UNUSED const void *nothrow)

#endif
