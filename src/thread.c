#include "thread.h"

__thread struct thread thread_own;

_Static_assert(sizeof(struct thread) <= 24, "with the pointer to the cache 32 bytes of static TLS");
