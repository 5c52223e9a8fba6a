/*
 * What to tell a caller who passed a pointer that is not the start of a live block: one line that says what the
 * pointer is instead. The heap is not touched.
 */
#ifndef MISUSE_H
#define MISUSE_H

#include "base.h"

/* `call` is the function's name. Called with no lock held. */
void misuse_report_pointer(const char *call, const void *pointer);

/* A live block, freed with a size or an alignment that it cannot have. */
void misuse_report_size(const char *call, const void *block, size_t given, size_t size, size_t capacity);
void misuse_report_alignment(const char *call, const void *block, size_t given, size_t size, size_t capacity);

#endif
