/*
 * A shared object that allocates whenever it can: in its constructor, when called, and in its destructor. Built three
 * ways: as a plugin that host.c opens, as a library that initialises before all others (-z initfirst), and preloaded.
 */
#include "blocks.h"

static struct blocks own;

void plugin_take(struct blocks *blocks);
void plugin_give(struct blocks *blocks);

__attribute__((constructor)) static void start(void) {
    struct blocks passing;
    blocks_take(&own);
    blocks_take(&passing);
    blocks_give(&passing);
}

void plugin_take(struct blocks *blocks) {
    blocks_take(blocks);
}

void plugin_give(struct blocks *blocks) {
    blocks_give(blocks);
}

__attribute__((destructor)) static void end(void) {
    struct blocks passing;
    blocks_take(&passing);
    blocks_give(&own);
    blocks_give(&passing);
}
