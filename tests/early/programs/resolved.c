/* Uses the indirect function of resolver.c; linked so that it is resolved at start (-z now). Prints "fine". */
#include "blocks.h"

extern struct blocks *resolved(void);

int main(void) {
    struct blocks mine;
    blocks_take(&mine);
    blocks_give(resolved());
    blocks_give(&mine);
    puts("fine");
    return 0;
}
