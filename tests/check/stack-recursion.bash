#!/usr/bin/env bash
# expected: os_take: recursion
sed -i 's/^    return memset/    if (size > 100 \&\& os_take(size \/ 2) == memory)\n        memory[0]++;\n&/' src/os.c
