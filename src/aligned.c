#include "cadastre.h"
#include "config.h"
#include "debug.h"
#include "names.h"
#include "os.h"
#include "process.h"
#include "request.h"
#include "sanitizer.h"
#include "sizeclass.h"
#include <errno.h>
#include <stdint.h>

/* A class that is a multiple of the alignment has aligned blocks, as slabs start on a unit's boundary. */
static NOINLINE void *take_aligned_slow(size_t alignment, size_t size, const void *frame) {
    bool zeroed;
    process_enter(); /* which reads the options */
    if (debug_is_on())
        return sanitizer_is_loaded() ? sanitizer_memalign(alignment, size) : debug_take(size, alignment, false, frame);
    if (sizeclass_can_align(size, size, alignment))
        return request_block(sizeclass_of_aligned(size, alignment), size, &zeroed);
    return request_large(size, size, alignment, &zeroed);
}

/* `alignment` is a power of two; `frame` as debug_take. That of a unit is left to the slow path. */
INLINE void *take_aligned(size_t alignment, size_t size, const void *frame) {
    if (alignment <= BLOCK_ALIGN)
        return cadastre_malloc(size);
    if (LIKELY(size <= SMALL_MAX && alignment < UNIT_SIZE)) {
        uint8_t state;
        void *block = tcache_take(tcache_current, sizeclass_of_aligned(size, alignment), size, &state);
        if (LIKELY(block != NULL))
            return block;
    }
    return take_aligned_slow(alignment, size, frame);
}

PUBLIC void *cadastre_aligned_alloc(size_t alignment, size_t size) {
    if (!is_power_of_two(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    return take_aligned(alignment, size, __builtin_frame_address(0));
}

PUBLIC int cadastre_posix_memalign(void **result, size_t alignment, size_t size) {
    if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
        return EINVAL;
    int saved = errno;
    void *block = take_aligned(alignment, size, __builtin_frame_address(0));
    errno = saved;
    if (block == NULL)
        return ENOMEM;
    *result = block;
    return 0;
}

PUBLIC void *cadastre_memalign(size_t alignment, size_t size) {
    if (alignment > SIZE_MAX / 2 + 1) { /* there is no power of two to round it up to */
        errno = EINVAL;
        return NULL;
    }
    size_t power = 1;
    while (power < alignment)
        power *= 2;
    return take_aligned(power, size, __builtin_frame_address(0));
}

static size_t page_size(void) {
    process_enter(); /* which reads it */
    return os_page_size();
}

PUBLIC void *cadastre_valloc(size_t size) {
    return take_aligned(page_size(), size, __builtin_frame_address(0));
}

PUBLIC void *cadastre_pvalloc(size_t size) {
    size_t page = page_size();
    if (size > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    return take_aligned(page, size == 0 ? page : round_up(size, page), __builtin_frame_address(0));
}

ALSO(aligned_alloc, void *, (size_t, size_t), cadastre_aligned_alloc)
ALSO(posix_memalign, int, (void **, size_t, size_t), cadastre_posix_memalign)
ALSO(memalign, void *, (size_t, size_t), cadastre_memalign)
ALSO(valloc, void *, (size_t), cadastre_valloc)
ALSO(pvalloc, void *, (size_t), cadastre_pvalloc)
ALSO_GLIBC(__libc_memalign, void *, (size_t, size_t), cadastre_memalign)
ALSO_GLIBC(__libc_valloc, void *, (size_t), cadastre_valloc)
ALSO_GLIBC(__libc_pvalloc, void *, (size_t), cadastre_pvalloc)
ALSO_GLIBC(__posix_memalign, int, (void **, size_t, size_t), cadastre_posix_memalign)
