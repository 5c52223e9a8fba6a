#!/usr/bin/env bash
# git: a history written by fast-import, repacked by two threads, checked, and read back in several ways.
set -u
source "$(dirname "$0")/lib.sh"
begin git git:git
live 96

# Nothing of this machine's configuration goes into what is compared.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_DIR=repository

# stream FILES: input for fast-import: 60 commits, each of which rewrites some of FILES files and removes
# a few.
stream() {
    awk -v files="$1" 'BEGIN {
        for (commit = 1; commit <= 60; commit++) {
            printf "commit refs/heads/main\ncommitter C <c@example.org> %d +0000\ndata 10\ncommit %03d\n",
                1600000000 + commit * 3600, commit
            for (file = commit % 4; file < files; file += commit == 1 ? 1 : 4 + file % 9) {
                path = sprintf("d%d/f%d", file % 17, file)
                if ((file + commit) % 23 == 0) {
                    printf "D %s\n", path
                    continue
                }
                text = ""
                for (line = 0; line < 20 + file % 50; line++)
                    text = text sprintf("line %d of %d, %s\n", line, file,
                        line % 11 == commit % 11 ? commit : "as it was")
                printf "M 644 inline %s\ndata %d\n%s\n", path, length(text), text
            }
        }
    }'
}

round() {
    run commands git bash -e "$HERE/git.sh" "$TMP/stream"
}

stream $((LIVE * 20)) >"$TMP/stream"
both round
for result in objects contents history matches tarball; do
    same "git's $result" "$result"
done
finish
