#!/usr/bin/env bash
# expected: arena/arena uses puts, which scripts/imports does not allow it
# What one unit may use is not for all.
echo 'puts src/os' >>scripts/imports
for file in src/os.c arena/arena.c; do
    sed -i -e '1i #include <stdio.h>' -e 's/^    return/    puts("");\n    return/' "$file"
done
