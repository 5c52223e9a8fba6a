/* A user's own program, in the C that a compiler speaks by itself: no feature macros. */
#include "memory_mapper.h"
#include <stdio.h>
#include <string.h>

int main(void) {
    t_mapping *region = create_shared_region_ex("/mapper-test-user", 10000, MAPPER_REPLACE, 0600);
    t_mapping *again = attach_shared_region("/mapper-test-user", 0);
    if (region == NULL || again == NULL || destroy_shared_region("/mapper-test-user") != 0) {
        perror("/mapper-test-user");
        return 1;
    }
    strcpy(region->addr, "fine");
    puts(again->addr);
    return unmap(again) != 0 || unmap(region) != 0 || unmap(again) == 0;
}
