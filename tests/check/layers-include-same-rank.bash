#!/usr/bin/env bash
# expected: src/map (rank 3) includes src/os (rank 3)
# Two units of one rank.
echo '   3    src/map' >>scripts/layers
echo '#include "os.h"' >src/map.c
