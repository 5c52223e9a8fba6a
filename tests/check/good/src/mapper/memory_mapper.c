#include "memory_mapper.h"
#include <sys/mman.h>

__attribute__((visibility("default"))) int unmap(void *mapping) {
    return munmap(mapping, 1);
}
