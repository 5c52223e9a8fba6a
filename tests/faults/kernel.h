/*
 * The kernel as the library under test meets it: the linker's --wrap sends mmap and its kin here, where they are
 * counted, refused as the test has planned, or made. What they map is tallied, so that nothing can be lost unseen.
 * For programs that are linked with the objects of a sanitizer build, which make these calls by the C library.
 */
#ifndef FAULTS_KERNEL_H
#define FAULTS_KERNEL_H

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

enum kernel_call {
    KERNEL_MMAP = 1,
    KERNEL_MUNMAP = 2,
    KERNEL_MREMAP = 4,
    KERNEL_MADVISE = 8,
    KERNEL_MPROTECT = 16,
    KERNEL_ALL = 31,
};

/* What is to be refused: of the calls of these kinds, counted from 1, number `first` to `last`. */
static atomic_uint kernel_kinds;
static atomic_size_t kernel_first, kernel_last;
static atomic_size_t kernel_calls;           /* of those kinds, since the plan was made */
static atomic_size_t kernel_most = SIZE_MAX; /* bytes that may be mapped at once, as by strict overcommit */
static atomic_bool kernel_is_deaf;           /* madvise says that it has, and has not */
static atomic_size_t kernel_refusals;        /* so far, of all kinds; the real kernel's among them */
static atomic_size_t kernel_mapped;          /* bytes, now */
static atomic_size_t kernel_stuck;           /* bytes of all munmaps refused so far */
static void (*kernel_interrupts)(void);      /* before a call of mmap or madvise; NULL: nothing does */

__attribute__((unused)) static void kernel_refuse(unsigned kinds, size_t first, size_t last) {
    atomic_store(&kernel_kinds, 0);
    atomic_store(&kernel_first, first);
    atomic_store(&kernel_last, last);
    atomic_store(&kernel_calls, 0);
    atomic_store(&kernel_kinds, kinds);
}

__attribute__((unused)) static void kernel_give_again(void) {
    kernel_refuse(0, 1, 0);
}

static bool kernel_refuses(enum kernel_call kind) {
    if (!(atomic_load(&kernel_kinds) & kind))
        return false;
    size_t number = atomic_fetch_add(&kernel_calls, 1) + 1;
    return atomic_load(&kernel_first) <= number && number <= atomic_load(&kernel_last);
}

static bool kernel_has_room(size_t more) {
    return atomic_load(&kernel_mapped) + more <= atomic_load(&kernel_most);
}

/* As the library's own system calls, none of these changes errno. */
static int kernel_answer(int saved, int result) {
    errno = saved;
    atomic_fetch_add(&kernel_refusals, result != 0);
    return result;
}

static void *kernel_answer_address(int saved, void *p, size_t more) {
    errno = saved;
    if (p == MAP_FAILED)
        atomic_fetch_add(&kernel_refusals, 1);
    else
        atomic_fetch_add(&kernel_mapped, more);
    return p;
}

/* The linker's names: __wrap_x is called for x, and __real_x is x. */
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__real_mremap(void *address, size_t old_size, size_t new_size, int flags, ...);
int __real_munmap(void *address, size_t size);
int __real_madvise(void *address, size_t size, int advice);
int __real_mprotect(void *address, size_t size, int protection);

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mremap(void *address, size_t old_size, size_t new_size, int flags, ...);
int __wrap_munmap(void *address, size_t size);
int __wrap_madvise(void *address, size_t size, int advice);
int __wrap_mprotect(void *address, size_t size, int protection);

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    int saved = errno;
    void *p = MAP_FAILED;
    if (kernel_interrupts)
        kernel_interrupts();
    if (!kernel_refuses(KERNEL_MMAP) && kernel_has_room(size))
        p = __real_mmap(address, size, protection, flags, fd, offset);
    return kernel_answer_address(saved, p, size);
}

void *__wrap_mremap(void *address, size_t old_size, size_t new_size, int flags, ...) {
    int saved = errno;
    void *p = MAP_FAILED;
    if (!kernel_refuses(KERNEL_MREMAP) && (new_size < old_size || kernel_has_room(new_size - old_size)))
        p = __real_mremap(address, old_size, new_size, flags);
    return kernel_answer_address(saved, p, new_size - old_size);
}

int __wrap_munmap(void *address, size_t size) {
    int saved = errno;
    int result = kernel_refuses(KERNEL_MUNMAP) ? -1 : __real_munmap(address, size);
    atomic_fetch_add(result == 0 ? &kernel_mapped : &kernel_stuck, result == 0 ? -size : size);
    return kernel_answer(saved, result);
}

int __wrap_madvise(void *address, size_t size, int advice) {
    int saved = errno;
    int result = -1;
    if (kernel_interrupts)
        kernel_interrupts();
    if (!kernel_refuses(KERNEL_MADVISE))
        result = atomic_load(&kernel_is_deaf) ? 0 : __real_madvise(address, size, advice);
    return kernel_answer(saved, result);
}

int __wrap_mprotect(void *address, size_t size, int protection) {
    int saved = errno;
    return kernel_answer(saved, kernel_refuses(KERNEL_MPROTECT) ? -1 : __real_mprotect(address, size, protection));
}

#endif
