#!/usr/bin/env bash
# expected: build/libmemory_mapper.so defines mapping_find
# The second library's own, of which the first knows nothing.
cat >>src/mapper/memory_mapper.c <<'END'

void *mapping_find(void *mapping);

__attribute__((visibility("default"))) void *mapping_find(void *mapping) {
    return mapping;
}
END
