# shellcheck shell=bash
# For the tests of the scripts and of the build: small_tree DIRECTORY makes a project there that builds in a moment, of
# the one that scripts/check tries its gates on, and this one's Makefile, manual pages and scripts.
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/../api/tap.sh"

# The tests are their own builders: what the surroundings ask of make is not for them.
unset MAKEFLAGS CFLAGS LDFLAGS CROSS LD_PRELOAD LD_LIBRARY_PATH

small_tree() {
    mkdir -p "$1"
    cp -r "$ROOT/tests/check/good/." "$1"
    cp -r "$ROOT/Makefile" "$ROOT/scripts" "$1"
    cp "$ROOT"/include/cadastre.[37] "$1/include"
}

# fails_saying TEXT COMMAND...: fails, and says so on one line of standard error that has TEXT in it.
fails_saying() {
    local text=$1
    shift
    if "$@" 2>"$WORK/err"; then
        echo "succeeded: $*"
        return 1
    fi
    contains "$text" "$WORK/err" && { [ "$(wc -l <"$WORK/err")" -eq 1 ] || { cat "$WORK/err"; return 1; }; }
}

# exits_with STATUS COMMAND...
exits_with() {
    local wanted=$1 status=0
    shift
    "$@" || status=$?
    [ "$status" -eq "$wanted" ] || { echo "exit status $status, not $wanted"; return 1; }
}
