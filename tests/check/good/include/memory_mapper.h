#ifndef MEMORY_MAPPER_H
#define MEMORY_MAPPER_H

#ifdef __cplusplus
extern "C" {
#endif

int unmap(void *mapping);

#ifdef __cplusplus
}
#endif

#endif
