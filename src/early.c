/*
 * In the shared object only. A program's or a library's IFUNC resolvers may allocate while the dynamic linker
 * relocates, before it copies the initial values of thread-local variables: a hit path would find a NULL thread cache.
 * So an indirect function of our own, which nobody calls, has a resolver that puts the initial value there as soon as
 * this library is relocated. A library that is relocated before us, bound at once, and calls us from a resolver of its
 * own crashes all the same, as it does with every preloaded malloc that has thread-local variables.
 */
#include "process.h"

#if defined(__GLIBC__)
__attribute__((used)) static void (*resolve_nothing(void))(void) {
    process_start_early();
    return NULL;
}

static void nothing(void) __attribute__((ifunc("resolve_nothing")));

/* Makes the linker emit the relocation that runs the resolver. */
__attribute__((used)) static void (*const volatile nothing_reference)(void) = nothing;
#endif
