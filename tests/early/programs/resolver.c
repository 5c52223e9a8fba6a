/*
 * A shared object with an indirect function: its resolver, called while a program that uses it is being relocated and
 * no constructor has run yet, allocates. The block that it leaves is given to the program by the function itself.
 */
#include "blocks.h"

static struct blocks left;

struct blocks *resolved(void);

static struct blocks *give_left(void) {
    return &left;
}

__attribute__((used)) static struct blocks *(*choose(void))(void) {
    struct blocks passing;
    blocks_take(&left);
    blocks_take(&passing);
    blocks_give(&passing);
    return give_left;
}

struct blocks *resolved(void) __attribute__((ifunc("choose")));
