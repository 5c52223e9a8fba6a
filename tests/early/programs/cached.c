/* Prints the number of blocks in thread caches, before it has allocated any itself. */
#include <malloc.h>
#include <stdio.h>

int main(void) {
    struct mallinfo2 info = mallinfo2();
    printf("%zu\n", info.smblks);
    return 0;
}
