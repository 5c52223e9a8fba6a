#!/usr/bin/env bash
# expected: scripts/tool:4:
# Work that was left for later, in a script.
echo '# FIXME' >>scripts/tool
