#!/usr/bin/env bash
# bash: a script of arrays, strings, pipes and hundreds of forks, bash being the program that is preloaded.
set -u
source "$(dirname "$0")/lib.sh"
begin bash bash:bash
live 64

round() {
    run script bash bash "$HERE/bash.sh" "$LIVE"
}

both round
same "what the script computed" log/script.out
finish
