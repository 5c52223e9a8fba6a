#!/usr/bin/env bash
# git: repacks a generated history from scratch, on two threads that search for deltas. The operation is the whole
# command.
set -u
source "$(dirname "$0")/lib.sh"
PACKAGES=(git:git time:/usr/bin/time)
CASES=(repack)

# Nothing of this machine's configuration goes into what is measured.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_DIR=repository

# stream FILES: input for fast-import: 60 commits, each of which rewrites some of FILES files.
stream() {
    awk -v files="$1" 'BEGIN {
        for (commit = 1; commit <= 60; commit++) {
            printf "commit refs/heads/main\ncommitter C <c@example.org> %d +0000\ndata 10\ncommit %03d\n",
                1600000000 + commit * 3600, commit
            for (file = commit % 4; file < files; file += commit == 1 ? 1 : 4 + file % 9) {
                text = ""
                for (line = 0; line < 20 + file % 50; line++)
                    text = text sprintf("line %d of %d, %s\n", line, file,
                        line % 11 == commit % 11 ? commit : "as it was")
                printf "M 644 inline d%d/f%d\ndata %d\n%s\n", file % 17, file, length(text), text
            }
        }
    }'
}

measure() {
    live 128
    stream $((LIVE * 16)) >"$TMP/stream"
    load "$TMP/import" git init -q --bare "$GIT_DIR"
    load "$TMP/import" bash -c 'git fast-import --quiet <"$1"' bash "$TMP/stream"
    batch git git -c pack.threads=2 repack -a -d -f -q --depth=50 --window=50
    load "$TMP/count" git rev-list --count main
    [[ $(<"$TMP/count") == 60 ]] || failed "$TMP/count" "commits are missing"
    result
}

main "$@"
