/*
 * The time since some start, by the function that the kernel maps into each process (the vDSO), which is found once, at
 * boot; before that, and where there is none, by a system call. Never by the C library's name: a program may have
 * another clock_gettime in its place, which may allocate. Safe in every thread and in signal handlers; errno is kept.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include "base.h"

/* Looks for the kernel's function. Once, at boot. */
void clock_boot(void);

uint64_t clock_ns(void);
uint64_t clock_coarse_ms(void); /* with a resolution of a few milliseconds, and cheaper */

#endif
