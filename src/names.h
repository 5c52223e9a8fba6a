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

#endif
