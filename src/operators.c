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
static COLD void *retry_or_throw(size_t alignment, size_t size) {
    handler handle;
    void *block = NULL;
    while (block == NULL && (handle = current_handler()) != NULL) {
        handle();
        block = take(alignment, size);
    }
    if (block == NULL)
        fail();
    return block;
}

/* By the ABI's names: nw new, na new[], dl delete, da delete[]; then the types of the parameters. */
#define OPERATOR(result, name, ...)                                                                                    \
    PUBLIC result name(__VA_ARGS__);                                                                                   \
    result name(__VA_ARGS__)

/* The four that the others come to (C++17, 21.6.2): a program that has replaced them alone has replaced all. So they
 * are called by the names of whatever is in effect; the names of ours are for seeing whether it is these. */
#define UNUSED __attribute__((unused))

IN_EFFECT(void *, new_in_effect, "_Znwm", size_t size)
IN_EFFECT(void *, aligned_new_in_effect, "_ZnwmSt11align_val_t", size_t size, size_t align)
IN_EFFECT(void, delete_in_effect, "_ZdlPv", void *block)
IN_EFFECT(void, aligned_delete_in_effect, "_ZdlPvSt11align_val_t", void *block, size_t align)

static void *our_new(size_t size) {
    void *block = take(0, size);
    return LIKELY(block != NULL) ? block : retry_or_throw(0, size);
}

static void *our_aligned_new(size_t size, size_t align) {
    void *block = take(align, size);
    return LIKELY(block != NULL) ? block : retry_or_throw(align, size);
}

extern void *_Znwm(size_t size) __attribute__((alias("our_new"), visibility("default")));
extern void *_ZnwmSt11align_val_t(size_t size, size_t align)
    __attribute__((alias("our_aligned_new"), visibility("default")));

OPERATOR(void, _ZdlPv, void *block) {
    cadastre_free(block);
}

OPERATOR(void, _ZdlPvSt11align_val_t, void *block, UNUSED size_t align) {
    cadastre_free(block);
}

OPERATOR(void *, _Znam, size_t size) {
    return new_in_effect(size);
}

OPERATOR(void *, _ZnamSt11align_val_t, size_t size, size_t align) {
    return aligned_new_in_effect(size, align);
}

/* A nothrow new gives NULL whatever is thrown; what can catch is the C++ library's, which calls the one in effect. */
static COLD void *nothrow(const char *name, size_t size, const void *tag) {
    void *(*function)(size_t, const void *) = (void *(*)(size_t, const void *))find_in_runtime(name);
    return function == NULL ? NULL : function(size, tag);
}

static COLD void *aligned_nothrow(const char *name, size_t size, size_t align, const void *tag) {
    void *(*function)(size_t, size_t, const void *) = (void *(*)(size_t, size_t, const void *))find_in_runtime(name);
    return function == NULL ? NULL : function(size, align, tag);
}

#define NOTHROW_NEW(name)                                                                                              \
    OPERATOR(void *, name, size_t size, const void *tag) {                                                             \
        void *block = names_are_same(new_in_effect, our_new) ? take(0, size) : NULL;                                   \
        return LIKELY(block != NULL) ? block : nothrow(#name, size, tag);                                              \
    }
#define NOTHROW_ALIGNED_NEW(name)                                                                                      \
    OPERATOR(void *, name, size_t size, size_t align, const void *tag) {                                               \
        void *block = names_are_same(aligned_new_in_effect, our_aligned_new) ? take(align, size) : NULL;               \
        return LIKELY(block != NULL) ? block : aligned_nothrow(#name, size, align, tag);                               \
    }
NOTHROW_NEW(_ZnwmRKSt9nothrow_t)
NOTHROW_NEW(_ZnamRKSt9nothrow_t)
NOTHROW_ALIGNED_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NOTHROW_ALIGNED_NEW(_ZnamSt11align_val_tRKSt9nothrow_t)

/* A size or an alignment is what the program's types say, and not checked: deleting by way of a base is common. */
#define OPERATOR_DELETE(name, ...)                                                                                     \
    OPERATOR(void, name, void *block, ##__VA_ARGS__) {                                                                 \
        delete_in_effect(block);                                                                                       \
    }
#define OPERATOR_ALIGNED_DELETE(name, ...)                                                                             \
    OPERATOR(void, name, void *block, ##__VA_ARGS__) {                                                                 \
        aligned_delete_in_effect(block, align);                                                                        \
    }
OPERATOR_DELETE(_ZdaPv)
OPERATOR_DELETE(_ZdlPvm, UNUSED size_t size)
OPERATOR_DELETE(_ZdaPvm, UNUSED size_t size)
OPERATOR_DELETE(_ZdlPvRKSt9nothrow_t, UNUSED const void *tag)
OPERATOR_DELETE(_ZdaPvRKSt9nothrow_t, UNUSED const void *tag)
OPERATOR_ALIGNED_DELETE(_ZdaPvSt11align_val_t, size_t align)
OPERATOR_ALIGNED_DELETE(_ZdlPvmSt11align_val_t, UNUSED size_t size, size_t align)
OPERATOR_ALIGNED_DELETE(_ZdaPvmSt11align_val_t, UNUSED size_t size, size_t align)
OPERATOR_ALIGNED_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t align, UNUSED const void *tag)
OPERATOR_ALIGNED_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t align, UNUSED const void *tag)

#endif
