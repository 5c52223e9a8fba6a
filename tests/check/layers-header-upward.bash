#!/usr/bin/env bash
# expected: src/base (rank 0) includes src/os (rank 3)
# The same, hidden in a header that everybody includes.
sed -i 's/^#include <stddef.h>/#include "os.h"/' src/base.h
