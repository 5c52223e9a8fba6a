#!/usr/bin/env bash
# expected: arena/arena.c includes src/list.c: only headers
# A source file inside another.
echo '   3    src/list' >>scripts/layers
touch src/list.c
sed -i '1i #include "list.c"' arena/arena.c
