#!/usr/bin/env bash
# expected: src/list.h: unit src/list is not in scripts/layers
# A unit that nobody gave a rank.
touch src/list.h
