#!/usr/bin/env bash
# expected: cannot use the line of src/os
# A table that gives a unit two ranks.
echo '  11    src/os' >>scripts/layers
