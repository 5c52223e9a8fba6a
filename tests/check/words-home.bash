#!/usr/bin/env bash
# expected: README.md:1:Built in /home/somebody/src.
# The path of somebody's home.
echo 'Built in /home/somebody/src.' >README.md
