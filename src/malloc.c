/*
 * malloc, calloc, free and what asks about a block. The hit paths are the first functions here and in tcache.h; all
 * else is reached by tail calls, so that a hit saves no register.
 */
#include "cadastre.h"
#include "debug.h"
#include "large.h"
#include "misuse.h"
#include "names.h"
#include "process.h"
#include "request.h"
#include "sanitizer.h"
#include <errno.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------- taking */
static NOINLINE void *malloc_debug(size_t size) {
    if (sanitizer_is_loaded())
        return sanitizer_malloc(size);
    return debug_keep_frame(debug_take(size, 1, false, __builtin_frame_address(0)));
}

static NOINLINE void *malloc_slow(size_t size) {
    bool zeroed;
    process_enter(); /* which reads the options */
    if (debug_is_on())
        return malloc_debug(size);
    return size > SMALL_MAX ? request_large(size, size, 1, &zeroed) : request_block(sizeclass_of(size), size, &zeroed);
}

static NOINLINE void *malloc_large(size_t size) {
    void *block = tcache_take_large(tcache_current, size);
    if (UNLIKELY(block == NULL))
        return malloc_slow(size);
    return block;
}

static NOINLINE void *calloc_debug(size_t size) {
    if (sanitizer_is_loaded())
        return sanitizer_calloc(1, size);
    return debug_keep_frame(debug_take(size, 1, true, __builtin_frame_address(0)));
}

/* All that the block holds is zeroed, as programs use what malloc_usable_size says. */
static NOINLINE void *calloc_fresh(size_t size) {
    size_t capacity;
    bool zeroed = false;
    void *block;
    if (size <= SMALL_MAX)
        block = request_block(sizeclass_of(size), size, &zeroed);
    else if ((block = tcache_take_large(tcache_current, size)) == NULL)
        block = request_large(size, size, 1, &zeroed);
    if (block != NULL && !zeroed && request_describe(block, &size, &capacity))
        memset(block, 0, capacity);
    return block;
}

/* Without variables in memory: a frame of its own would keep calloc_debug from a tail call, and be the caller shown. */
static NOINLINE void *calloc_slow(size_t size) {
    process_enter_for_calloc();
    return debug_is_on() ? calloc_debug(size) : calloc_fresh(size);
}

/* *before as tcache_pop. */
INLINE void *hit(size_t size, uint8_t *before) {
    struct tcache *cache = tcache_current;
    if (LIKELY(size <= TINY_MAX))
        return tcache_pop(cache, cache->tiny[(size + 15) / 16], TINY, size, before);
    if (LIKELY(size <= SMALL_MAX))
        return tcache_pop(cache, tcache_own(cache, sizeclass_of_small[(size - 1) / 128]), SMALL, size, before);
    return NULL;
}

PUBLIC void *cadastre_malloc(size_t size) {
    uint8_t state;
    void *block = hit(size, &state);
    if (UNLIKELY(block == NULL))
        return size > SMALL_MAX ? malloc_large(size) : malloc_slow(size);
    return block;
}

PUBLIC void *cadastre_calloc(size_t count, size_t size) {
    uint8_t state;
    size_t bytes;
    if (UNLIKELY(__builtin_mul_overflow(count, size, &bytes)))
        bytes = SIZE_MAX; /* is refused */
    void *block = hit(bytes, &state);
    if (UNLIKELY(block == NULL))
        return calloc_slow(bytes);
    return state == STATE_UNTOUCHED ? block : memset(block, 0, sizeclass_capacity(bytes));
}

/* --------------------------------------------------------------------------------------------------- freeing */
static void give_debug(const char *call, void *block, const void *frame) {
    int saved = errno;
    debug_give(call, block, frame);
    errno = saved;
}

static NOINLINE void free_debug(void *block) {
    if (sanitizer_is_loaded())
        sanitizer_free(block);
    else
        give_debug("free", block, __builtin_frame_address(0));
}

static NOINLINE void free_slow(void *block) {
    if (tcache_keep_large_slowly(tcache_current, block))
        return;
    if (debug_is_on()) {
        free_debug(block);
        return;
    }
    int saved = errno;
    struct tcache *cache = process_enter();
    struct slab_line *line;
    state_byte *state;
    if (slab_find_live((uintptr_t)block, &line, &state))
        tcache_give(cache, block, state);
    else if (large_give(block))
        arenas_keep_contract();
    else
        misuse_report_pointer("free", block, NULL);
    errno = saved;
}

/* Not of a slab: LARGE, NULL, or a mistake. */
static NOINLINE void free_large(void *block) {
    if (block != NULL && UNLIKELY(!tcache_keep_large(tcache_current, block)))
        free_slow(block);
}

static NOINLINE void free_in_bundle(void *block, const struct slab_line *line, state_byte *state) {
    if (UNLIKELY(!tcache_push_bundle(tcache_current, line, block, state)))
        free_slow(block);
}

/* The magazine is full, or of another arena's row. */
static NOINLINE void free_elsewhere(void *block, const struct slab_line *line, state_byte *state) {
    struct tcache *cache = tcache_current;
    uint32_t owner = load_relaxed(&line->owner);
    if (OWNER(OWNER_ARENA(owner), 0) == cache->row)
        free_slow(block);
    else if (!tcache_push_outgoing(cache, OWNER_CLASS(owner), state))
        free_in_bundle(block, line, state);
}

PUBLIC void cadastre_free(void *block) {
    struct leaf *leaf = directory_leaf((uintptr_t)block);
    size_t unit = directory_unit((uintptr_t)block);
    state_byte *state;
    if (UNLIKELY(!slab_find_live_in(leaf, &unit, (uintptr_t)block, &state))) {
        free_large(block);
        return;
    }
    struct magazine *magazine = tcache_magazine(tcache_current, load_relaxed(&leaf->lines[unit].owner));
    if (UNLIKELY(!tcache_push(magazine, block, state))) {
        OPAQUE(unit);
        free_elsewhere(block, &leaf->lines[unit], state);
    }
}

/* ---------------------------------------------------------------------------------------------------- asking */
PUBLIC size_t cadastre_malloc_usable_size(void *block) {
    size_t size;
    size_t capacity;
    if (block == NULL)
        return 0;
    if (LIKELY(request_describe(block, &size, &capacity)))
        return debug_usable(size, capacity);
    if (sanitizer_is_loaded())
        return sanitizer_malloc_usable_size(block);
    debug_report_pointer("malloc_usable_size", block, __builtin_frame_address(0));
    return 0;
}

/* C23 leaves a wrong size undefined; sizes that the block can hold are let pass, as some callers round up. */
static void free_checked(const char *call, void *block, size_t alignment, size_t given, const void *frame) {
    size_t size;
    size_t capacity;
    if (block == NULL)
        return;
    if (sanitizer_is_loaded()) {
        sanitizer_free(block);
        return;
    }
    if (UNLIKELY(!request_describe(block, &size, &capacity))) {
        debug_report_pointer(call, block, frame);
        return;
    }
    if (UNLIKELY(given < size || given > capacity))
        debug_report_given(call, block, "size", given, size, capacity, frame);
    else if (UNLIKELY(alignment == 0 || (uintptr_t)block % alignment != 0))
        debug_report_given(call, block, "alignment", alignment, size, capacity, frame);
    if (debug_is_on())
        give_debug(call, block, frame);
    else
        cadastre_free(block);
}

PUBLIC void cadastre_free_sized(void *block, size_t size) {
    free_checked("free_sized", block, 1, size, __builtin_frame_address(0));
}

PUBLIC void cadastre_free_aligned_sized(void *block, size_t alignment, size_t size) {
    free_checked("free_aligned_sized", block, alignment, size, __builtin_frame_address(0));
}

ALSO(malloc, void *, (size_t), cadastre_malloc)
ALSO(calloc, void *, (size_t, size_t), cadastre_calloc)
ALSO(free, void, (void *), cadastre_free)
ALSO(cfree, void, (void *), cadastre_free)
ALSO(malloc_usable_size, size_t, (void *), cadastre_malloc_usable_size)
ALSO_GLIBC(__libc_malloc, void *, (size_t), cadastre_malloc)
ALSO_GLIBC(__libc_calloc, void *, (size_t, size_t), cadastre_calloc)
ALSO_GLIBC(__libc_free, void, (void *), cadastre_free)

#ifndef CADASTRE_PREFIXED
IN_EFFECT(void, free_in_effect, "free", void *block)

static bool free_is_ours(void) {
    return LIKELY(names_are_same(free_in_effect, cadastre_free));
}

PUBLIC void free_sized(void *block, size_t size) {
    if (free_is_ours())
        free_checked("free_sized", block, 1, size, __builtin_frame_address(0));
    else
        free_in_effect(block);
}

PUBLIC void free_aligned_sized(void *block, size_t alignment, size_t size) {
    if (free_is_ours())
        free_checked("free_aligned_sized", block, alignment, size, __builtin_frame_address(0));
    else
        free_in_effect(block);
}
#endif
