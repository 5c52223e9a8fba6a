#!/usr/bin/env bash
# expected: scripts/tool:3:15: note: Double quote to prevent
# A word that splits.
sed -i 's/"$1"/$1/' scripts/tool
