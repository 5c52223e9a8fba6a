# shellcheck shell=bash
# git.t's work, in the current directory: a repository from a stream for fast-import, then one file for each
# way of reading it. usage: bash -e git.sh STREAM
git init -q --bare "$GIT_DIR"
git symbolic-ref HEAD refs/heads/main
git fast-import --quiet <"$1"
git -c pack.threads=2 repack -a -d -f -q --depth=50 --window=50
git -c pack.threads=2 fsck --full --strict --no-progress
git rev-list --objects main >objects
git cat-file --batch --batch-all-objects >contents
git log --stat -p --find-renames >history
git -c grep.threads=2 grep -n 'of [0-9]*7, [0-9]' main >matches
git archive --format=tar main >tarball
