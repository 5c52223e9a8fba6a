#include "os.h"
#include "base.h"
#include <string.h>

static char memory[4096];

void *os_take(size_t size) {
    return memset(memory, 0, round_up(size, 16));
}
