#!/usr/bin/env bash
# node: a thread and three workers that write, read and compress JSON and pass it on as buffers. The JavaScript heap is
# V8's own mappings; malloc serves buffers, compression, parsing and the compiler. The operation is the whole program.
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=(nodejs:node time:/usr/bin/time)
CASES=(json)

measure() {
    live 384
    batch 'node*' node --max-old-space-size=$((LIVE / 4)) "$HERE/node.js" $((LIVE * 64))
    [[ $(<"$TMP/out") =~ ^[0-9a-f]{64}$ ]] || failed "$TMP/out" "no checksum"
    result
}

main "$@"
