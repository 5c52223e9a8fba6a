#include "request.h"
#include "large.h"
#include "process.h"
#include <errno.h>

/* When the kernel refuses: what is cached goes back to the arenas, and what nobody uses to the kernel. */
static void reclaim(void) {
    process_drain();
    arenas_unmap_all();
}

/* The last resort when the thread's arena can have no more memory: what others have free. */
static void *take_anywhere(unsigned class, size_t size, uint8_t *state) {
    void *block = NULL;
    for (unsigned i = 0; block == NULL && i < arenas_count(); i++)
        block = tcache_take_direct(arenas_at(i), false, class, size, state);
    return block;
}

static struct arena *home_of(struct tcache *cache) {
    return tcache_is_real(cache) ? cache->owner : arenas_at(0);
}

static void *take_block(struct tcache *cache, unsigned class, size_t size, uint8_t *state) {
    void *block = tcache_take(cache, class, size, state);
    if (block != NULL)
        return block;
    if (!tcache_is_real(cache))
        return tcache_take_direct(home_of(cache), true, class, size, state);
    return tcache_refill(cache, class) ? tcache_take(cache, class, size, state) : NULL;
}

static COLD void *take_at_any_price(struct tcache *cache, unsigned class, size_t size, uint8_t *state) {
    arena_retry_growth(home_of(cache));
    reclaim();
    void *block = take_block(cache, class, size, state);
    return block != NULL ? block : take_anywhere(class, size, state);
}

void *request_block(unsigned class, size_t size, bool *zeroed) {
    uint8_t before = STATE_USED;
    struct tcache *cache = process_enter();
    /* If the kernel refused a moment ago it is not asked again before the other arenas are. */
    bool refused = arena_skips_growth(home_of(cache));
    void *block = take_block(cache, class, size, &before);
    if (UNLIKELY(block == NULL && refused))
        block = take_anywhere(class, size, &before);
    if (UNLIKELY(block == NULL))
        block = take_at_any_price(cache, class, size, &before);
    if (UNLIKELY(block == NULL))
        errno = ENOMEM;
    *zeroed = before == STATE_UNTOUCHED;
    return block;
}

/* Cold memory faults: before it is taken, the thread gives up what it keeps for itself. */
static void *take_large(struct tcache *cache, size_t size, size_t room, size_t alignment, bool *zeroed) {
    if (tcache_keeps_large(cache)) {
        void *block = large_take_warm(size, room, alignment);
        *zeroed = false;
        if (block != NULL)
            return block;
        tcache_give_up_large(cache);
    }
    return large_take(size, room, alignment, zeroed);
}

void *request_large(size_t size, size_t room, size_t alignment, bool *zeroed) {
    void *block = NULL;
    struct tcache *cache = process_enter();
    /* What no address space has room for is not worth reclaiming for. */
    if (room < LARGE_MAX && alignment < LARGE_MAX) {
        block = take_large(cache, size, room, alignment, zeroed);
        if (UNLIKELY(block == NULL)) {
            reclaim();
            block = large_take(size, room, alignment, zeroed);
        }
        arenas_keep_contract();
    }
    if (UNLIKELY(block == NULL))
        errno = ENOMEM;
    return block;
}

bool request_describe(const void *block, size_t *size, size_t *capacity) {
    uintptr_t address = (uintptr_t)block;
    struct slab_line *line;
    state_byte *state;
    if (slab_find_live(address, &line, &state)) {
        *size = slab_size_of(line, state);
        *capacity = slab_block_size(line);
        return true;
    }
    struct large_view view;
    if (!large_find(address, &view) || view.start != address || view.kind != LARGE_LIVE)
        return false;
    *size = view.size;
    *capacity = view.span;
    return true;
}
