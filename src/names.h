/*
 * The names that the library exports. Every function of the malloc family is defined as cadastre_x; ALSO gives it
 * other names. In the builds for sanitizers, which own the standard names, only the cadastre_ ones are there.
 */
#ifndef NAMES_H
#define NAMES_H

#include "base.h"

/* gcc wants to see that both names have the same attributes; clang does not, and has no such attribute. */
#if __has_attribute(copy)
#define ATTRIBUTES_OF(target) copy(target)
#else
#define ATTRIBUTES_OF(target)
#endif

#ifdef CADASTRE_PREFIXED
#define ALSO(name, result, parameters, target)
/* What <malloc.h> declares besides the family, to be included after this. */
#define mallinfo     cadastre_mallinfo
#define mallinfo2    cadastre_mallinfo2
#define malloc_info  cadastre_malloc_info
#define malloc_stats cadastre_malloc_stats
#define malloc_trim  cadastre_malloc_trim
#define mallopt      cadastre_mallopt
#else
#define ALSO(name, result, parameters, target)                                                                         \
    PUBLIC extern result name parameters __attribute__((alias(#target), ATTRIBUTES_OF(target)));
#endif

/* Names that in glibc mean the same. In musl they are an allocator that the C library keeps for itself, as it calls it
 * with its own locks held. */
#if defined(__GLIBC__)
#define ALSO_GLIBC ALSO
#else
#define ALSO_GLIBC(name, result, parameters, target)
#endif

/*
 * The function that has this name in the program: another's, where the program or a library before ours defines it. The
 * C library's functions that need another one of the family call that by its name, so that a malloc, free and realloc
 * of a program's own do for all. Ours do the same:
 *
 *   reallocarray                       calls realloc
 *   free_sized, free_aligned_sized     call free, where that is not ours
 *   operators new[], delete[], ...     call the four that they come to (operators.c)
 *   calloc, aligned_alloc and its kin, malloc_usable_size
 *                                      are alone there as well, and go by what is ours (or the C library's, there)
 */
#define IN_EFFECT(result, function, name, ...) extern result function(__VA_ARGS__) __asm__(name);

/* Unknown to the compiler, for which two names are two functions. */
#define names_are_same(in_effect, ours) is_same_address((const void *)(in_effect), (const void *)(ours))

INLINE bool is_same_address(const void *in_effect, const void *ours) {
    __asm__("" : "+r"(in_effect));
    return in_effect == ours;
}

#endif
