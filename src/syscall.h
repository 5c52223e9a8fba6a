/*
 * System calls without the C library: they leave errno alone, and nothing interposed on mmap, write or the like (a
 * tracer that calls dlsym, which mallocs) stands between the allocator and the kernel.
 * Result as the kernel gives it: the value, or -errno.
 */
#ifndef SYSCALL_H
#define SYSCALL_H

#include "base.h"
#include <sys/syscall.h>

#if defined(__x86_64__)
INLINE long syscall6(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
INLINE long syscall6(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#endif

INLINE long syscall3(long number, long a, long b, long c) {
    return syscall6(number, a, b, c, 0, 0, 0);
}

INLINE long syscall4(long number, long a, long b, long c, long d) {
    return syscall6(number, a, b, c, d, 0, 0);
}

#endif
