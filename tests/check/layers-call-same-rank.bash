#!/usr/bin/env bash
# expected: src/realloc (rank 12) uses src/malloc (rank 12): cadastre_malloc
# One standard name goes through another.
echo '  12    src/realloc' >>scripts/layers
cat >src/realloc.c <<'END'
#include "cadastre.h"

void *again(size_t size);

void *again(size_t size) {
    return cadastre_malloc(size);
}
END
