/*
 * Mappings and their handles. What belongs to one mapping stands in a record on pages of its own: the handle that the
 * caller has, the same once more where the caller does not write, and the name. The records of live handles form a
 * register, so that a pointer is looked up, never followed, before it is believed.
 *
 * The lock is held for the register only, and for mprotect, whose outcome the record has to show. Longer calls pin the
 * record instead, and unmap waits until nobody does.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "memory_mapper.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum {
    PROT_ALL = PROT_READ | PROT_WRITE | PROT_EXEC,
    ATTACH_WAIT_MS = 1000, /* for a region that is still being created */
    REPLACE_TRIES = 100,   /* where others create regions of that name as well */
    PLACE_TRIES = 32,      /* for pages at addresses that no record had yet */
    PLACE_SHIFT = 11       /* the next try goes down by that part of the address */
};

struct record {
    t_mapping handle; /* the caller's, who may write to it: never read */
    t_mapping own;    /* addr NULL: not mapped yet; fd -1: none */
    size_t size;      /* of its pages */

    /* Under the lock: */
    struct record *child[2];
    unsigned users; /* calls that are at it now */

    char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t unused = PTHREAD_COND_INITIALIZER; /* some record has no users any more */
static struct record *live;
static uintptr_t lowest; /* no record was ever below; 0: there was none */

/* --------------------------------------------------------------------------------------- the register
 * A tree in which each bit of a handle's address, mixed, leads to the left or the right, and whatever stands on the way
 * is a record too. The mixing loses nothing, so no two ways are the same; and as the records are its nodes, nothing can
 * fail. */
static struct record **live_find(const t_mapping *handle) {
    uint64_t way = (uintptr_t)handle * UINT64_C(0x9E3779B97F4A7C15);
    struct record **place = &live;
    for (; *place != NULL && &(*place)->handle != handle; way <<= 1)
        place = &(*place)->child[way >> 63];
    return place;
}

static void live_add(struct record *record) {
    record->child[0] = record->child[1] = NULL;
    *live_find(&record->handle) = record;
}

/* Any leaf below may take the place: it is on its way. */
static void live_remove(struct record **place) {
    struct record *removed = *place;
    struct record **leaf = place;
    while ((*leaf)->child[0] != NULL || (*leaf)->child[1] != NULL)
        leaf = &(*leaf)->child[(*leaf)->child[0] == NULL];
    struct record *moved = *leaf;
    *leaf = NULL;
    if (moved != removed) {
        memcpy(moved->child, removed->child, sizeof moved->child);
        *place = moved;
    }
}

/* ---------------------------------------------------------------------------------------------- fork
 * The child's register is whole, and none of the calls that were at a mapping goes on there. */
static void unpin_all(struct record *record) {
    if (record == NULL)
        return;
    record->users = 0;
    unpin_all(record->child[0]);
    unpin_all(record->child[1]);
}

static void fork_prepare(void) {
    pthread_mutex_lock(&lock);
}

static void fork_parent(void) {
    pthread_mutex_unlock(&lock);
}

static void fork_child(void) {
    unpin_all(live);
    unused = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void fork_watch(void) {
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* ------------------------------------------------------------------------------------------- records */
static int fail(int error) {
    errno = error;
    return -1;
}

/*
 * Zeroed pages below all that records ever lay on: so a handle that was unmapped is never taken for a later one. The
 * kernel puts mappings side by side, which leaves no room there; the first record goes far below, and so does the next
 * if something else is in the way. Should nothing be found, any place is good.
 */
static void *record_place(size_t size) {
    void *pages = MAP_FAILED;
    pthread_mutex_lock(&lock);
    for (int tries = PLACE_TRIES; tries >= 0; tries--) {
        void *below = tries > 0 && lowest > size ? (void *)(lowest - size) : NULL;
        pages = mmap(below, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED || tries == 0)
            break;
        if (pages == below) {
            lowest -= size;
            break;
        }
        uintptr_t from = lowest == 0 ? (uintptr_t)pages : lowest;
        lowest = (from - (from >> PLACE_SHIFT)) / size * size;
        if (munmap(pages, size) != 0) {
            pages = MAP_FAILED;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return pages == MAP_FAILED ? NULL : pages;
}

static struct record *record_create(const char *name, int flags, int prot) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t length = name == NULL ? 0 : strlen(name) + 1;
    size_t size = (sizeof(struct record) + length + page - 1) / page * page;
    struct record *record = record_place(size);
    if (record == NULL)
        return NULL;
    record->size = size;
    record->own.fd = -1;
    record->own.flags = flags;
    record->own.prot = prot;
    if (name != NULL)
        record->own.name = memcpy(record->name, name, length);
    return record;
}

/* EINVAL where there is nothing to map. */
static int record_map(struct record *record) {
    t_mapping *own = &record->own;
    void *addr = mmap(NULL, own->size, own->prot, own->flags, own->fd, 0);
    if (addr == MAP_FAILED)
        return -1;
    own->addr = addr;
    return 0;
}

/* From here on the handle is the caller's. */
static t_mapping *record_publish(struct record *record) {
    record->handle = record->own;
    pthread_mutex_lock(&lock);
    live_add(record);
    pthread_mutex_unlock(&lock);
    return &record->handle;
}

/* Closed is closed: Linux has freed the descriptor even where it says EINTR. */
static int close_fd(int fd) {
    return close(fd) == 0 || errno == EINTR ? 0 : -1;
}

/* All but the mapping. Leaves errno alone, and returns the first error that there was, or 0. */
static int record_release(struct record *record) {
    int before = errno, error = 0;
    if (record->own.fd >= 0 && close_fd(record->own.fd) != 0)
        error = errno;
    if (munmap(record, record->size) != 0 && error == 0)
        error = errno;
    errno = before;
    return error;
}

/* Undoes what was done of a mapping that was not published. */
static t_mapping *record_discard(struct record *record) {
    int error = errno;
    if (record->own.addr != NULL)
        munmap(record->own.addr, record->own.size);
    record_release(record);
    errno = error;
    return NULL;
}

static struct record *record_pin(const t_mapping *handle) {
    pthread_mutex_lock(&lock);
    struct record *record = *live_find(handle);
    if (record != NULL)
        record->users++;
    pthread_mutex_unlock(&lock);
    if (record == NULL)
        errno = EINVAL;
    return record;
}

static void record_unpin(struct record *record) {
    pthread_mutex_lock(&lock);
    if (--record->users == 0)
        pthread_cond_broadcast(&unused);
    pthread_mutex_unlock(&lock);
}

/* --------------------------------------------------------------------------------------------- files */
static int check_regular(const struct stat *status) {
    return S_ISREG(status->st_mode) ? 0 : fail(S_ISDIR(status->st_mode) ? EISDIR : ENODEV);
}

/* The size of a regular file. */
static int get_size(int fd, size_t *size) {
    struct stat status;
    if (fstat(fd, &status) != 0 || check_regular(&status) != 0)
        return -1;
    *size = (size_t)status.st_size;
    return 0;
}

/* To open a FIFO may block and to open a device may do something, so what it is comes first. O_NONBLOCK is for what has
 * changed since. */
static int file_open(t_mapping *file, int writable) {
    struct stat status;
    if (stat(file->name, &status) != 0 || check_regular(&status) != 0)
        return -1;
    do
        file->fd = open(file->name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    while (file->fd < 0 && errno == EINTR);
    return file->fd < 0 ? -1 : get_size(file->fd, &file->size);
}

PUBLIC t_mapping *map_file(const char *filepath, int writable) {
    if (filepath == NULL || filepath[0] == '\0') {
        errno = EINVAL;
        return NULL;
    }
    struct record *record =
        record_create(filepath, writable ? MAP_SHARED : MAP_PRIVATE, writable ? PROT_READ | PROT_WRITE : PROT_READ);
    if (record == NULL)
        return NULL;
    if (file_open(&record->own, writable) != 0 || record_map(record) != 0)
        return record_discard(record);
    return record_publish(record);
}

/* ------------------------------------------------------------------------------------ anonymous memory */
PUBLIC t_mapping *map_anonymous(size_t size, int shared) {
    struct record *record =
        record_create(NULL, MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), PROT_READ | PROT_WRITE);
    if (record == NULL)
        return NULL;
    record->own.size = size;
    return record_map(record) != 0 ? record_discard(record) : record_publish(record);
}

/* -------------------------------------------------------------------------------------- shared regions */
static int check_name(const char *name) {
    if (name == NULL || name[0] != '/' || name[1] == '\0' || strchr(name + 1, '/') != NULL)
        return fail(EINVAL);
    if (strcmp(name, "/.") == 0 || strcmp(name, "/..") == 0)
        return fail(EINVAL);
    return strlen(name + 1) > NAME_MAX ? fail(ENAMETOOLONG) : 0;
}

static int region_open(const char *name, int flags, mode_t mode) {
    int fd;
    do
        fd = shm_open(name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int region_create(const char *name, int replace, mode_t mode) {
    int fd = -1;
    for (int tries = replace ? REPLACE_TRIES : 1; tries > 0; tries--) {
        fd = region_open(name, O_RDWR | O_CREAT | O_EXCL, mode);
        if (fd >= 0 || errno != EEXIST || tries == 1)
            break;
        if (shm_unlink(name) != 0 && errno != ENOENT)
            break;
    }
    return fd;
}

/*
 * Gives the region its memory and, once all of that is there, its size, which is what attaching waits for. On older
 * kernels a signal undoes what is done so far, again at each try: so signals wait. The limit would send one, too.
 */
static int region_reserve(int fd, size_t size) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && size > limit.rlim_cur)
        return fail(EFBIG);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result;
    do
        result = fallocate(fd, 0, 0, (off_t)size);
    while (result != 0 && errno == EINTR);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return result;
}

/* Not if somebody has replaced it meanwhile. */
static void region_withdraw(const char *name, int fd) {
    int error = errno;
    struct stat status;
    if (fstat(fd, &status) != 0 || status.st_nlink > 0)
        shm_unlink(name);
    errno = error;
}

PUBLIC t_mapping *create_shared_region_ex(const char *name, size_t size, int flags, mode_t mode) {
    if (check_name(name) != 0)
        return NULL;
    if (size == 0 || (flags & ~MAPPER_REPLACE) != 0 || (mode & ~(mode_t)0777) != 0) {
        errno = EINVAL;
        return NULL;
    }
    struct record *record = record_create(name, MAP_SHARED, PROT_READ | PROT_WRITE);
    if (record == NULL)
        return NULL;
    record->own.size = size;
    record->own.fd = region_create(name, flags & MAPPER_REPLACE, mode);
    if (record->own.fd < 0)
        return record_discard(record);
    if (record_map(record) != 0 || region_reserve(record->own.fd, size) != 0) {
        region_withdraw(name, record->own.fd);
        return record_discard(record);
    }
    return record_publish(record);
}

PUBLIC t_mapping *create_shared_region(const char *name, size_t size) {
    return create_shared_region_ex(name, size, 0, 0600);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Opened anew each time: its creator may give up, or be replaced. */
static int region_attach(t_mapping *region, int writable) {
    int64_t deadline = now_ms() + ATTACH_WAIT_MS;
    for (;;) {
        region->fd = region_open(region->name, writable ? O_RDWR : O_RDONLY, 0);
        if (region->fd < 0 && errno == ENXIO) /* a socket, or a FIFO that nobody reads */
            return fail(ENODEV);
        if (region->fd < 0) /* the name was right, so EINVAL is the C library's word for a directory */
            return errno == EINVAL ? fail(EISDIR) : -1;
        if (get_size(region->fd, &region->size) != 0)
            return -1;
        if (region->size > 0)
            return 0;
        if (now_ms() >= deadline)
            return fail(ETIMEDOUT);
        int fd = region->fd;
        region->fd = -1;
        if (close_fd(fd) != 0)
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

PUBLIC t_mapping *attach_shared_region(const char *name, int writable) {
    if (check_name(name) != 0)
        return NULL;
    struct record *record = record_create(name, MAP_SHARED, writable ? PROT_READ | PROT_WRITE : PROT_READ);
    if (record == NULL)
        return NULL;
    if (region_attach(&record->own, writable) != 0 || record_map(record) != 0)
        return record_discard(record);
    return record_publish(record);
}

PUBLIC int destroy_shared_region(const char *name) {
    return check_name(name) != 0 ? -1 : shm_unlink(name);
}

/* ------------------------------------------------------------------------------------------ using them */
PUBLIC int sync_mapping(t_mapping *mapping, int flags) {
    int when = flags & ~MS_INVALIDATE;
    if (when != MS_SYNC && when != MS_ASYNC)
        return fail(EINVAL);
    struct record *record = record_pin(mapping);
    if (record == NULL)
        return -1;
    int result;
    do
        result = msync(record->own.addr, record->own.size, flags);
    while (result != 0 && errno == EINTR);
    record_unpin(record);
    return result;
}

PUBLIC int protect_mapping(t_mapping *mapping, int prot) {
    if ((prot & ~PROT_ALL) != 0)
        return fail(EINVAL);
    pthread_mutex_lock(&lock);
    struct record *record = *live_find(mapping);
    int result = record == NULL ? fail(EINVAL) : mprotect(record->own.addr, record->own.size, prot);
    if (result == 0)
        record->own.prot = record->handle.prot = prot;
    pthread_mutex_unlock(&lock);
    return result;
}

PUBLIC int mapping_check(t_mapping *mapping) {
    struct record *record = record_pin(mapping);
    if (record == NULL)
        return -1;
    size_t size = record->own.size;
    int result = record->own.fd < 0 ? 0 : get_size(record->own.fd, &size);
    if (result == 0 && size < record->own.size)
        result = fail(EFAULT);
    record_unpin(record);
    return result;
}

typedef ssize_t copy_function(pid_t, const struct iovec *, unsigned long, const struct iovec *, unsigned long,
                              unsigned long);

/* The kernel goes as far as it can: only the next call says what is in the way. */
static int copy_all(copy_function *copy, char *data, char *there, size_t len) {
    while (len > 0) {
        ssize_t copied = copy(getpid(), &(struct iovec){data, len}, 1, &(struct iovec){there, len}, 1, 0);
        if (copied < 0 && errno != EINTR)
            return -1;
        if (copied == 0)
            return fail(EFAULT);
        if (copied > 0) {
            data += copied;
            there += copied;
            len -= (size_t)copied;
        }
    }
    return 0;
}

static int mapping_copy(t_mapping *mapping, size_t offset, char *data, size_t len, copy_function *copy) {
    struct record *record = record_pin(mapping);
    if (record == NULL)
        return -1;
    int is_inside = offset <= record->own.size && len <= record->own.size - offset;
    int result = is_inside ? copy_all(copy, data, (char *)record->own.addr + offset, len) : fail(EINVAL);
    record_unpin(record);
    return result;
}

PUBLIC int mapping_read(t_mapping *mapping, size_t offset, void *data, size_t len) {
    return mapping_copy(mapping, offset, data, len, process_vm_readv);
}

PUBLIC int mapping_write(t_mapping *mapping, size_t offset, const void *data, size_t len) {
    return mapping_copy(mapping, offset, (char *)(uintptr_t)data, len, process_vm_writev);
}

/* ------------------------------------------------------------------------------------------ ending them */
PUBLIC int unmap(t_mapping *mapping) {
    pthread_mutex_lock(&lock);
    struct record **place = live_find(mapping);
    struct record *record = *place;
    if (record != NULL)
        live_remove(place);
    while (record != NULL && record->users > 0)
        pthread_cond_wait(&unused, &lock);
    pthread_mutex_unlock(&lock);
    if (record == NULL)
        return fail(EINVAL);
    if (munmap(record->own.addr, record->own.size) != 0) {
        record_publish(record);
        return -1;
    }
    int error = record_release(record);
    return error == 0 ? 0 : fail(error);
}
