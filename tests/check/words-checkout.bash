#!/usr/bin/env bash
# expected: [a path of one machine]
# The path of this very checkout.
echo "Read $PWD/scripts/layers." >README.md
