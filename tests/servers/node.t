#!/usr/bin/env bash
# node: worker threads that parse and write JSON, compress on node's own thread pool and pass their buffers
# on.
set -u
source "$(dirname "$0")/lib.sh"
begin node nodejs:node
live 384 256

round() {
    run workers node node --max-old-space-size=$((LIVE / 4)) "$HERE/node.js" $((LIVE / 4))
}

both round
same "what the workers computed" log/workers.out
finish
