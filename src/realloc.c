#include "arenas.h"
#include "cadastre.h"
#include "debug.h"
#include "large.h"
#include "misuse.h"
#include "names.h"
#include "request.h"
#include "sanitizer.h"
#include <errno.h>
#include <stdint.h>
#include <string.h>

#define COPY_MAX (16 * MIB)

static size_t capacity_for(size_t size) {
    return size <= SMALL_MAX ? sizeclass_capacity(size) : size;
}

/* To a new block, with all of the old capacity that the new one holds, as a program may have used all of it; NULL:
 * there is no memory, and the old one stands. */
static void *move_block(void *block, size_t capacity, size_t size) {
    size_t new_capacity = capacity_for(size);
    void *moved = cadastre_malloc(size);
    if (moved == NULL)
        return NULL;
    request_describe(moved, &size, &new_capacity); /* a LARGE block has more */
    memcpy(moved, block, min_size(capacity, new_capacity));
    cadastre_free(block);
    return moved;
}

/* Where moving would not save half of the block it stays. */
static NOINLINE void *resize_slab_block(const struct slab_line *line, void *block, state_byte *state, size_t size) {
    size_t capacity = slab_block_size(line);
    if (size <= capacity && capacity_for(size) > capacity / 2) {
        slab_set_size(line, state, size);
        return block;
    }
    int saved = errno;
    void *moved = move_block(block, capacity, size);
    if (moved != NULL || size > capacity)
        return moved;
    errno = saved; /* a smaller size never fails */
    slab_set_size(line, state, size);
    return block;
}

/* To memory that is resident already, if there is some; NULL: nothing done. */
static void *copy_large_block(void *block, size_t capacity, size_t size) {
    void *copy = tcache_take_large(tcache_current, size);
    if (copy == NULL)
        copy = large_take_warm(size, size, 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, block, capacity);
    cadastre_free(block);
    return copy;
}

/* The kernel can move pages, but every new one behind them is a fault: a block that is not long, and grows by more than
 * a quarter, is sooner copied to where pages are resident. */
static bool is_worth_copying(size_t capacity, size_t size) {
    return size <= COPY_MAX && size > capacity + capacity / 4;
}

static void *resize_large_block(void *block, size_t capacity, size_t size) {
    if (size > SMALL_MAX || capacity_for(size) > capacity / 2) {
        void *resized = large_fit(block, size) ? block : NULL;
        if (resized == NULL && is_worth_copying(capacity, size))
            resized = copy_large_block(block, capacity, size);
        if (resized == NULL)
            resized = large_resize(block, size, true);
        arenas_keep_contract(); /* a tail may have become a cached span */
        return resized != NULL ? resized : move_block(block, capacity, size);
    }
    int saved = errno;
    void *moved = move_block(block, capacity, size);
    if (moved != NULL)
        return moved;
    errno = saved;
    return large_resize(block, size, false);
}

static NOINLINE void *realloc_debug(void *block, size_t size) {
    if (sanitizer_is_loaded())
        return sanitizer_realloc(block, size);
    return debug_keep_frame(debug_resize(block, size, __builtin_frame_address(0)));
}

PUBLIC void *cadastre_realloc(void *block, size_t size) {
    uintptr_t address = (uintptr_t)block;
    struct large_view view;
    if (block == NULL)
        return cadastre_malloc(size);
    if (debug_is_on())
        return realloc_debug(block, size);
    struct slab_line *line;
    state_byte *state;
    if (LIKELY(slab_find_live(address, &line, &state))) {
        size_t capacity = slab_block_size(line);
        if (LIKELY(size <= capacity && size > capacity / 2)) {
            slab_set_size(line, state, size);
            return block;
        }
        if (LIKELY(size != 0))
            return resize_slab_block(line, block, state, size);
        cadastre_free(block);
        return NULL;
    }
    if (UNLIKELY(!large_find(address, &view) || view.start != address || view.kind != LARGE_LIVE)) {
        misuse_report_pointer("realloc", block, NULL);
        errno = EINVAL;
        return NULL;
    }
    if (size == 0) {
        cadastre_free(block);
        return NULL;
    }
    if (size > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    return resize_large_block(block, view.span, size);
}

/* By `resize`, a tail call. */
INLINE void *resize_array(void *resize(void *, size_t), void *block, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return resize(block, bytes);
}

PUBLIC void *cadastre_reallocarray(void *block, size_t count, size_t size) {
    return resize_array(cadastre_realloc, block, count, size);
}

ALSO(realloc, void *, (void *, size_t), cadastre_realloc)
ALSO_GLIBC(__libc_realloc, void *, (void *, size_t), cadastre_realloc)

#ifndef CADASTRE_PREFIXED
IN_EFFECT(void *, realloc_in_effect, "realloc", void *block, size_t size)

PUBLIC void *reallocarray(void *block, size_t count, size_t size);
void *reallocarray(void *block, size_t count, size_t size) {
    return resize_array(realloc_in_effect, block, count, size);
}
#endif
