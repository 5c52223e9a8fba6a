#include "arenas.h"
#include "cadastre.h"
#include "message.h"
#include "misuse.h"
#include <errno.h>
#include <unistd.h>

#define OUTPUT_BUFFER 1024 /* on the stack: this call needs no memory */

_Static_assert((int)CADASTRE_TINY == (int)WALK_TINY && (int)CADASTRE_SMALL == (int)WALK_SMALL &&
                   (int)CADASTRE_LARGE == (int)WALK_LARGE,
               "the public names of the categories");

/* ---------------------------------------------------------------------------------------------- for programs */
struct public_walk {
    int (*visit)(void *argument, const cadastre_block *block);
    void *argument;
    int result;
};

static bool visit_public(void *argument, const struct walk_block *block) {
    struct public_walk *walk = argument;
    const cadastre_block public_block = {.address = (void *)block->start,
                                         .size = block->size,
                                         .capacity = block->capacity,
                                         .category = (enum cadastre_category)block->category,
                                         .arena = block->category == WALK_LARGE ? -1 : (int)block->arena,
                                         .zone = (void *)block->zone};
    walk->result = walk->visit(walk->argument, &public_block);
    return walk->result == 0;
}

PUBLIC int cadastre_walk(int (*visit)(void *argument, const cadastre_block *block), void *argument) {
    struct public_walk walk = {visit, argument, 0};
    if (misuse_is_inside_malloc("cadastre_walk")) {
        errno = EDEADLK;
        return -1;
    }
    arenas_walk(visit_public, &walk);
    return walk.result;
}

/* ------------------------------------------------------------------------------------------------ for people */
struct heapmap {
    struct text text;
    uintptr_t zone; /* whose heading was printed last */
    size_t total;
};

static const char *const headings[] = {[WALK_TINY] = "TINY : ", [WALK_SMALL] = "SMALL : ", [WALK_LARGE] = "LARGE : "};

static bool print_block(void *argument, const struct walk_block *block) {
    struct heapmap *map = argument;
    struct text *text = &map->text;
    if (block->zone != map->zone) {
        text_add(text, headings[block->category]);
        text_add_HEX(text, block->zone);
        text_add(text, "\n");
        map->zone = block->zone;
    }
    text_add_HEX(text, block->start);
    text_add(text, " - ");
    text_add_HEX(text, block->start + block->size);
    text_add(text, " : ");
    text_add_decimal(text, block->size);
    text_add(text, " bytes\n");
    map->total += block->size;
    return true;
}

PUBLIC void show_alloc_mem(void) {
    char buffer[OUTPUT_BUFFER];
    if (misuse_is_inside_malloc("show_alloc_mem"))
        return;
    struct heapmap map = {.text = {buffer, 0, sizeof buffer, STDOUT_FILENO}};
    arenas_walk(print_block, &map);
    text_add(&map.text, "Total : ");
    text_add_decimal(&map.text, map.total);
    text_add(&map.text, " bytes\n");
    text_flush(&map.text);
}

PUBLIC void show_alloc_memory(void) {
    show_alloc_mem();
}
