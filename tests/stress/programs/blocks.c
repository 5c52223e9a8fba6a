#include "stress.h"

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Any two blocks that overlap, at one time or another, have patterns that differ. */
static uint64_t tag_of(struct held held) {
    return (uintptr_t)held.block * 0x9e3779b97f4a7c15u ^ held.size * 0xbf58476d1ce4e5b9u;
}

static void fill(struct held held) {
    pattern_write(held.block, held.size, tag_of(held));
}

void block_verify(struct held held) {
    if (held.block == NULL)
        return;
    size_t usable = cadastre_malloc_usable_size(held.block);
    must(usable >= held.size, "%p: %zu bytes were asked for, %zu are usable", (void *)held.block, held.size, usable);
    must(pattern_holds(held.block, held.size, tag_of(held)), "%p: %zu bytes, and not as they were written",
         (void *)held.block, held.size);
}

/* ------------------------------------------------------------------------------------------------------ taking */
static void must_be_zero(struct held held) {
    for (size_t i = 0; i < held.size; i = pattern_next(i, held.size))
        must(held.block[i] == 0, "%p: byte %zu of calloc's %zu is not zero", (void *)held.block, i, held.size);
}

/* Now and then such that the block is LARGE, however short. */
static size_t any_alignment(struct rng *rng) {
    return (size_t)16 << rng_between(rng, 0, rng_between(rng, 0, 30) != 0 ? 9 : 16);
}

/* The function's name is for the message. */
static const char *take(struct rng *rng, size_t size, void **block, size_t *alignment) {
    *alignment = 16;
    switch (rng_between(rng, 0, 15)) {
    case 0:
    case 1:
        *block = cadastre_calloc(1, size);
        return "calloc";
    case 2:
        *block = cadastre_calloc(size, 1);
        return "calloc";
    case 3:
        *block = cadastre_reallocarray(NULL, size, 1);
        return "reallocarray";
    case 4:
        *alignment = any_alignment(rng);
        *block = cadastre_aligned_alloc(*alignment, size);
        return "aligned_alloc";
    case 5:
        *alignment = any_alignment(rng);
        if (cadastre_posix_memalign(block, *alignment, size) != 0)
            *block = NULL;
        return "posix_memalign";
    case 6:
        *alignment = rng_between(rng, 0, 30) != 0 ? 64 : page_size();
        *block = *alignment == 64 ? cadastre_memalign(64, size) : cadastre_valloc(size);
        return "memalign";
    default:
        *block = cadastre_malloc(size);
        return "malloc";
    }
}

struct held block_make(struct rng *rng, size_t size) {
    void *block;
    size_t alignment;
    const char *call = take(rng, size, &block, &alignment);
    if (block == NULL && stress.refuses)
        return (struct held){NULL, 0};
    must(block != NULL, "%s of %zu bytes gives none", call, size);
    must((uintptr_t)block % alignment == 0, "%s gives %p, which is no multiple of %zu", call, block, alignment);
    struct held held = {block, size};
    if (strcmp(call, "calloc") == 0)
        must_be_zero(held);
    fill(held);
    return held;
}

/* ----------------------------------------------------------------------------------------------------- changing */
struct held block_resize(struct rng *rng, struct held held, size_t size) {
    size_t common = size < held.size ? size : held.size;
    block_verify(held);
    unsigned char *block =
        rng_between(rng, 0, 3) != 0 ? cadastre_realloc(held.block, size) : cadastre_reallocarray(held.block, 1, size);
    if (block == NULL && size > held.size && stress.refuses) {
        block_verify(held);
        return held;
    }
    must(block != NULL || size == 0, "realloc from %zu to %zu bytes gives none", held.size, size);
    /* As much of the pattern as has no other stride in a block of the new size. */
    for (size_t i = 0; i < common && i < 256; i++)
        must(block[i] == pattern_at(tag_of(held), i), "%p: byte %zu is lost by realloc from %zu to %zu bytes",
             (void *)block, i, held.size, size);
    held = (struct held){block, size};
    if (block != NULL)
        fill(held);
    return held;
}

/* ------------------------------------------------------------------------------------------------------- giving */
void block_release(struct rng *rng, struct held held) {
    block_verify(held);
    switch (held.block == NULL ? 0 : rng_between(rng, 0, 9)) {
    case 1:
        cadastre_free_sized(held.block, held.size);
        break;
    case 2:
        cadastre_free_aligned_sized(held.block, 16, held.size);
        break;
    case 3:
        must(cadastre_realloc(held.block, 0) == NULL, "realloc to 0 gives a block");
        break;
    default:
        cadastre_free(held.block);
    }
}
