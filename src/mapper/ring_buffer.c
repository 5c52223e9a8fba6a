/*
 * A ring buffer between processes. What they share, and the protocol, stand in ring_layout.h.
 *
 * Uses memory_mapper's public functions alone, no malloc, and of the C library nothing that takes a lock.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "ring_buffer.h"
#include "ring_end.h"

#include <limits.h>
#include <sys/stat.h>

#define PUBLIC __attribute__((visibility("default")))

_Static_assert(RING_MESSAGE_HEADER == sizeof(uint32_t), "a message's header is its length");

/* What a handle is: private memory, which fork copies. */
struct ring {
    t_ring_buffer shown;
    t_mapping *pages; /* that this lies in */
    struct ring_shared *shared;
    _Atomic uint64_t *process; /* process_identity, in a page of its own that fork wipes */
    uint64_t creator;          /* identity of the process that created the ring by this handle; 0: attached */
    uint64_t serial;           /* tells the handles of a process apart */
    uint64_t mask;             /* capacity - 1, if that is a power of two, else 0 */
    bool spsc;
    struct end writer, reader;
};

/* Of this process, also right after fork. */
static uint64_t ring_process(struct ring *ring) {
    uint64_t process = atomic_load_explicit(ring->process, memory_order_relaxed);
    if (__builtin_expect(process == 0, 0)) {
        process = process_identity(getpid());
        atomic_store_explicit(ring->process, process, memory_order_relaxed);
    }
    return process;
}

/* A side of the ring is ours alone from end_enter to end_leave. */
static int end_enter(struct ring *ring, struct end *end, int64_t until) {
    uint64_t process = ring_process(ring);
    if (ring->spsc)
        return role_enter(end, process | ring->serial << SERIAL_AT);
    self_know(process);
    return turn_take(end, until);
}

static void end_leave(struct ring *ring, struct end *end) {
    if (ring->spsc)
        role_leave(end);
    else
        turn_release(end);
}

/* --------------------------------------------------------------------------------------- positions, data */

/* Where an operation may begin, and how many bytes are there for it. */
struct stretch {
    uint64_t position, available;
};

/*
 * Looks how much room or data there is; at the other side's position only if the last known does not give all that is
 * wanted, for it lies in a line that the other side writes. 0, EPIPE (the end is marked; for a reader: and nothing is
 * left) or EBADMSG.
 */
static int ring_look(struct ring *ring, struct end *end, uint64_t wanted, struct stretch *found) {
    uint64_t capacity = ring->shown.capacity, own = atomic_load(&end->side->position), other = end->seen;
    bool writes = end == &ring->writer, ended = writes && (own & RING_ENDED);
    if (ended)
        return EPIPE;
    uint64_t used = writes ? own - other : other - own;
    if (used > capacity || (writes ? capacity - used : used) < wanted) {
        other = atomic_load(&end->other->position);
        ended = !writes && (other & RING_ENDED);
        other -= ended ? RING_ENDED : 0;
        used = writes ? own - other : other - own;
        if (used > capacity)
            return EBADMSG;
        end->seen = other;
    }
    *found = (struct stretch){own, writes ? capacity - used : used};
    return ended && used == 0 ? EPIPE : 0;
}

/*
 * Waits until ring_look finds `need` bytes; more are wanted, but not waited for. Where spinning was in vain, as on one
 * CPU it is, it is done less and less.
 */
static int ring_await(struct ring *ring, struct end *end, uint64_t need, uint64_t wanted, int64_t until,
                      struct stretch *found) {
    struct ring_side *side = end->side;
    bool slept = false;
    unsigned try = 0;
    int error;
    for (;; try++) {
        error = ring_look(ring, end, wanted, found);
        if (error || found->available >= need)
            break;
        if (until == AT_ONCE) {
            error = EAGAIN;
            break;
        }
        if (spin(try << end->vain))
            continue;
        uint32_t event = atomic_load(&side->event);
        atomic_store(&side->wanted, need);
        slept = true;
        error = ring_look(ring, end, wanted, found);
        if (error || found->available >= need)
            break;
        error = futex_sleep(&side->event, event, until);
        if (error)
            break;
    }
    if (slept) {
        atomic_store(&side->wanted, 0);
        end->vain += end->vain < VAIN_MOST;
    } else if (try > 0) {
        end->vain = 0;
    }
    return error;
}

static size_t ring_place(const struct ring *ring, uint64_t position) {
    return ring->mask ? position & ring->mask : position % ring->shown.capacity;
}

/*
 * Small writes that come one after another are slow where their lines are still in the reader's cache: publishing has
 * to wait for each of them to be had. So they are asked for some writes before.
 */
static void prefetch_for_writing(const char *data, size_t size) {
    for (size_t at = 0; at < size; at += 64)
#if defined(__x86_64__)
        __asm__ volatile("prefetchw %0" : : "m"(data[at])); /* the compiler's own is one for reading */
#else
        __builtin_prefetch(data + at, 1);
#endif
}

static void ring_copy_in(struct ring *ring, uint64_t position, const void *from, size_t size) {
    size_t at = ring_place(ring, position), first = ring->shown.capacity - at;
    if (first > size)
        first = size;
    memcpy(ring->shown.data + at, from, first);
    memcpy(ring->shown.data, (const char *)from + first, size - first);
    if (size <= AHEAD && at + AHEAD + size <= ring->shown.capacity)
        prefetch_for_writing(ring->shown.data + at + AHEAD, size);
}

static void ring_copy_out(const struct ring *ring, uint64_t position, void *to, size_t size) {
    size_t at = ring_place(ring, position), first = ring->shown.capacity - at;
    if (first > size)
        first = size;
    memcpy(to, ring->shown.data + at, first);
    memcpy((char *)to + first, ring->shown.data, size - first);
}

/* The bytes from `found` on, `size` of them, are written. EPIPE: the end was marked before. */
static int ring_publish(struct ring *ring, struct stretch found, size_t size) {
    uint64_t head = found.position;
    if (!atomic_compare_exchange_strong(&ring->shared->writers.position, &head, found.position + size))
        return head & RING_ENDED ? EPIPE : EBADMSG;
    side_tell(ring->writer.other, ring->shown.capacity - found.available + size);
    return 0;
}

/* The same bytes are read, and their places free. */
static void ring_consume(struct ring *ring, struct stretch found, size_t size) {
    atomic_store(&ring->shared->readers.position, found.position + size);
    side_tell(ring->reader.other, ring->shown.capacity - found.available + size);
}

/* ------------------------------------------------------------------------------------------- operations */

/* A ring is one of bytes or of messages from its first operation on. */
static int ring_settle(struct ring *ring, uint32_t framing) {
    uint32_t settled = atomic_load_explicit(&ring->shared->framing, memory_order_relaxed);
    if (settled == RING_UNDECIDED && atomic_compare_exchange_strong(&ring->shared->framing, &settled, framing))
        return 0;
    return settled == framing ? 0 : settled == RING_BYTES || settled == RING_MESSAGES ? EPROTO : EBADMSG;
}

static int put_bytes(struct ring *ring, const char *data, size_t len, int64_t until, size_t *done) {
    size_t capacity = ring->shown.capacity;
    bool whole = len <= capacity;
    int error = 0;
    while (*done < len && !error) {
        /* Of a long write, half a ring at a time, so as not to be woken for each byte that is read; less at last. */
        size_t left = len - *done, half = capacity - capacity / 2, need = whole || left < half ? left : half;
        struct stretch found = {0, 0};
        error = ring_await(ring, &ring->writer, need, left, until, &found);
        if (!whole && (error == EAGAIN || error == ETIMEDOUT) && found.available > 0)
            error = 0;
        if (!error) {
            size_t size = left < found.available ? left : found.available;
            ring_copy_in(ring, found.position, data + *done, size);
            error = ring_publish(ring, found, size);
            *done += error ? 0 : size;
        }
    }
    return error;
}

static int put_message(struct ring *ring, const char *data, size_t len, int64_t until, size_t *done) {
    uint32_t header = (uint32_t)len;
    struct stretch found;
    int error = ring_await(ring, &ring->writer, sizeof header + len, sizeof header + len, until, &found);
    if (error)
        return error;
    ring_copy_in(ring, found.position, &header, sizeof header);
    ring_copy_in(ring, found.position + sizeof header, data, len);
    error = ring_publish(ring, found, sizeof header + len);
    *done = error ? 0 : len;
    return error;
}

static int get_bytes(struct ring *ring, char *data, size_t len, int64_t until, size_t *done) {
    struct stretch found;
    int error = ring_await(ring, &ring->reader, 1, len, until, &found);
    if (error)
        return error;
    *done = len < found.available ? len : found.available;
    ring_copy_out(ring, found.position, data, *done);
    ring_consume(ring, found, *done);
    return 0;
}

static int get_message(struct ring *ring, char *data, size_t len, int64_t until, size_t *done) {
    uint32_t header;
    struct stretch found;
    int error = ring_await(ring, &ring->reader, 1, 1, until, &found);
    if (error)
        return error;
    if (found.available <= sizeof header)
        return EBADMSG;
    ring_copy_out(ring, found.position, &header, sizeof header);
    if (header == 0 || header > found.available - sizeof header)
        return EBADMSG;
    if (header > len)
        return EMSGSIZE;
    ring_copy_out(ring, found.position + sizeof header, data, header);
    ring_consume(ring, found, sizeof header + header);
    *done = header;
    return 0;
}

static ssize_t failed(int error) {
    errno = error;
    return -1;
}

/* What is wrong with the arguments; 0: nothing. */
static int check_arguments(const t_ring_buffer *rb, const void *data, size_t len, enum ring_framing framing) {
    if (!rb || (!data && len > 0) || len > SSIZE_MAX || (framing == RING_MESSAGES && len == 0))
        return EINVAL;
    return ring_settle((struct ring *)rb, framing);
}

static ssize_t ring_put(t_ring_buffer *rb, const void *data, size_t len, enum ring_framing framing, int64_t until) {
    struct ring *ring = (struct ring *)rb;
    size_t done = 0;
    int error = check_arguments(rb, data, len, framing);
    if (!error && framing == RING_MESSAGES &&
        (rb->capacity < RING_MESSAGE_HEADER || len > rb->capacity - RING_MESSAGE_HEADER || len > UINT32_MAX))
        error = EMSGSIZE;
    if (!error && len > 0)
        error = end_enter(ring, &ring->writer, until);
    if (!error && len > 0) {
        error = framing == RING_MESSAGES ? put_message(ring, data, len, until, &done)
                                         : put_bytes(ring, data, len, until, &done);
        end_leave(ring, &ring->writer);
    }
    return done > 0 || !error ? (ssize_t)done : failed(error);
}

static ssize_t ring_get(t_ring_buffer *rb, void *data, size_t len, enum ring_framing framing, int64_t until) {
    struct ring *ring = (struct ring *)rb;
    size_t done = 0;
    int error = check_arguments(rb, data, len, framing);
    if (!error && len > 0)
        error = end_enter(ring, &ring->reader, until);
    if (!error && len > 0) {
        error = framing == RING_MESSAGES ? get_message(ring, data, len, until, &done)
                                         : get_bytes(ring, data, len, until, &done);
        end_leave(ring, &ring->reader);
    }
    return !error || error == EPIPE ? (ssize_t)done : failed(error);
}

PUBLIC ssize_t ring_write(t_ring_buffer *rb, const void *data, size_t len) {
    return ring_put(rb, data, len, RING_BYTES, FOREVER);
}

PUBLIC ssize_t ring_read(t_ring_buffer *rb, void *data, size_t len) {
    return ring_get(rb, data, len, RING_BYTES, FOREVER);
}

PUBLIC ssize_t ring_try_write(t_ring_buffer *rb, const void *data, size_t len) {
    return ring_put(rb, data, len, RING_BYTES, AT_ONCE);
}

PUBLIC ssize_t ring_try_read(t_ring_buffer *rb, void *data, size_t len) {
    return ring_get(rb, data, len, RING_BYTES, AT_ONCE);
}

PUBLIC ssize_t ring_timed_write(t_ring_buffer *rb, const void *data, size_t len, int timeout_ms) {
    return ring_put(rb, data, len, RING_BYTES, deadline(timeout_ms));
}

PUBLIC ssize_t ring_timed_read(t_ring_buffer *rb, void *data, size_t len, int timeout_ms) {
    return ring_get(rb, data, len, RING_BYTES, deadline(timeout_ms));
}

PUBLIC ssize_t ring_write_message(t_ring_buffer *rb, const void *data, size_t len) {
    return ring_put(rb, data, len, RING_MESSAGES, FOREVER);
}

PUBLIC ssize_t ring_read_message(t_ring_buffer *rb, void *data, size_t len) {
    return ring_get(rb, data, len, RING_MESSAGES, FOREVER);
}

PUBLIC ssize_t ring_try_write_message(t_ring_buffer *rb, const void *data, size_t len) {
    return ring_put(rb, data, len, RING_MESSAGES, AT_ONCE);
}

PUBLIC ssize_t ring_try_read_message(t_ring_buffer *rb, void *data, size_t len) {
    return ring_get(rb, data, len, RING_MESSAGES, AT_ONCE);
}

PUBLIC ssize_t ring_timed_write_message(t_ring_buffer *rb, const void *data, size_t len, int timeout_ms) {
    return ring_put(rb, data, len, RING_MESSAGES, deadline(timeout_ms));
}

PUBLIC ssize_t ring_timed_read_message(t_ring_buffer *rb, void *data, size_t len, int timeout_ms) {
    return ring_get(rb, data, len, RING_MESSAGES, deadline(timeout_ms));
}

PUBLIC int ring_close(t_ring_buffer *rb) {
    struct ring *ring = (struct ring *)rb;
    if (!ring)
        return (int)failed(EINVAL);
    atomic_fetch_or(&ring->shared->writers.position, RING_ENDED);
    side_wake(&ring->shared->readers);
    side_wake(&ring->shared->writers);
    return 0;
}

/* ------------------------------------------------------------------------------------------ the handles */

/* The handle's page or two, and one with the process' identity that fork wipes. NULL with errno. */
static struct ring *handle_make(void) {
    static _Atomic uint64_t serials;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (sizeof(struct ring) + page - 1) & ~(page - 1);
    t_mapping *pages = map_anonymous(size + page, 0);
    if (!pages)
        return NULL;
    struct ring *ring = pages->addr;
    ring->pages = pages;
    ring->process = (_Atomic uint64_t *)((char *)pages->addr + size);
    ring->serial = atomic_fetch_add(&serials, 1) & ((UINT64_C(1) << SERIAL_BITS) - 1);
    if (madvise((char *)pages->addr + size, page, MADV_WIPEONFORK) != 0) {
        int error = errno;
        unmap(pages);
        errno = error;
        return NULL;
    }
    return ring;
}

static void handle_connect(struct ring *ring, t_mapping *region, uint64_t capacity) {
    struct ring_shared *shared = region->addr;
    ring->shared = shared;
    ring->spsc = shared->flags & RING_SPSC;
    ring->mask = capacity & (capacity - 1) ? 0 : capacity - 1;
    ring->writer.side = ring->reader.other = &shared->writers;
    ring->reader.side = ring->writer.other = &shared->readers;
    ring->shown = (t_ring_buffer){
        .mapping = region,
        .capacity = capacity,
        .head = (size_t *)&shared->writers.position,
        .tail = (size_t *)&shared->readers.position,
        .data = (char *)region->addr + RING_DATA,
    };
}

/* Gives up a handle that did not become one; errno is `error`. */
static t_ring_buffer *handle_drop(struct ring *ring, t_mapping *region, int error) {
    if (region)
        unmap(region);
    unmap(ring->pages);
    errno = error;
    return NULL;
}

static uint64_t pid_namespace(void) {
    struct stat namespace;
    return stat("/proc/self/ns/pid", &namespace) == 0 ? namespace.st_ino : 0;
}

PUBLIC t_ring_buffer *create_ring_buffer_ex(const char *name, size_t capacity, int flags, mode_t mode) {
    if (capacity == 0 || flags & ~(RING_SPSC | RING_REPLACE)) {
        errno = EINVAL;
        return NULL;
    }
    if (capacity > SSIZE_MAX - RING_DATA) {
        errno = ENOMEM;
        return NULL;
    }
    struct ring *ring = handle_make();
    if (!ring)
        return NULL;
    t_mapping *region =
        create_shared_region_ex(name, RING_DATA + capacity, flags & RING_REPLACE ? MAPPER_REPLACE : 0, mode);
    if (!region)
        return handle_drop(ring, NULL, errno);
    struct ring_shared *shared = region->addr;
    shared->capacity = capacity;
    shared->flags = (uint32_t)flags & RING_SPSC;
    shared->pid_namespace = pid_namespace();
    handle_connect(ring, region, capacity);
    ring->creator = ring_process(ring);
    atomic_store_explicit(&shared->magic, RING_MAGIC, memory_order_release);
    return &ring->shown;
}

PUBLIC t_ring_buffer *create_ring_buffer(const char *name, size_t capacity) {
    return create_ring_buffer_ex(name, capacity, 0, 0600);
}

/* Whether the region is a ring's, and whole; waits for its creator. 0 or an error. */
static int region_check(const t_mapping *region) {
    struct ring_shared *shared = region->addr;
    if (region->size <= RING_DATA)
        return EINVAL;
    struct timespec pause = {.tv_nsec = NS_PER_MS};
    int64_t until = deadline(CREATION_MS);
    uint64_t magic;
    while ((magic = atomic_load_explicit(&shared->magic, memory_order_acquire)) == 0 && now_ns() < until)
        nanosleep(&pause, NULL);
    if (magic != RING_MAGIC)
        return magic ? EINVAL : ETIMEDOUT;
    if (shared->capacity != region->size - RING_DATA || shared->flags & ~(uint32_t)RING_SPSC)
        return EBADMSG;
    uint64_t here = pid_namespace();
    return here && shared->pid_namespace && here != shared->pid_namespace ? EXDEV : 0;
}

PUBLIC t_ring_buffer *attach_ring_buffer(const char *name) {
    struct ring *ring = handle_make();
    if (!ring)
        return NULL;
    t_mapping *region = attach_shared_region(name, 1);
    int error = region ? region_check(region) : errno;
    if (error)
        return handle_drop(ring, region, error);
    handle_connect(ring, region, region->size - RING_DATA);
    return &ring->shown;
}

PUBLIC void destroy_ring_buffer(t_ring_buffer *rb) {
    struct ring *ring = (struct ring *)rb;
    if (!ring)
        return;
    uint64_t process = ring_process(ring);
    struct end *ends[] = {&ring->writer, &ring->reader};
    for (int i = 0; i < 2; i++) {
        uint64_t role = process | ring->serial << SERIAL_AT;
        if (ends[i]->role == role)
            atomic_compare_exchange_strong(&ends[i]->side->role, &role, 0);
    }
    if (ring->creator == process) {
        struct stat region;
        ring_close(rb);
        /* Somebody may have replaced it: then the name is another's. */
        if (fstat(rb->mapping->fd, &region) == 0 && region.st_nlink > 0)
            destroy_shared_region(rb->mapping->name);
    }
    unmap(rb->mapping);
    unmap(ring->pages);
}
