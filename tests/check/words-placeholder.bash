#!/usr/bin/env bash
# expected: README.md:3:
# Text that a program should have filled in, where a README may stand.
printf '# Small\n\n@FIGURES@\n' >README.md
