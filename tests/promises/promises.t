#!/usr/bin/env bash
# usage: tests/promises/promises.t
# What comes of each misuse and fault of the table of promises, with this malloc, is what the table promises.
exec "$(dirname "$(realpath "$0")")/../../scripts/promises" --check --runs 1
