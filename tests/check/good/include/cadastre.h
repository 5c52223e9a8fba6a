/* A tree in little, which every gate must accept; the scripts beside it each plant one fault in it. */
#ifndef CADASTRE_H
#define CADASTRE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void *cadastre_malloc(size_t size);

#ifdef __cplusplus
}
#endif

#endif
