#include "arena.h"
#include "cadastre.h"

__attribute__((visibility("default"))) void *cadastre_malloc(size_t size) {
    return arena_refill(size);
}
