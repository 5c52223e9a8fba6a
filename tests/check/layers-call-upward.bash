#!/usr/bin/env bash
# expected: src/os (rank 3) uses arena/arena (rank 8): arena_refill
# A call that no include betrays: only the objects' symbols do.
cat >>src/os.c <<'END'

void *arena_refill(size_t size);
void *os_retake(size_t size);

void *os_retake(size_t size) {
    return arena_refill(size);
}
END
