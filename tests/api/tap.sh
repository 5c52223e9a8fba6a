# TAP for the shell tests, sourced by them: ok, skip and done, the places that they need, and a directory of their own.
# shellcheck shell=bash
set -u

# shellcheck disable=SC2034  # for the tests
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=$ROOT/build
CC=${CC:-gcc}
CFLAGS_OF_TESTS="-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wno-deprecated-declarations -O1 -g -fno-builtin -I$ROOT/include"

if [ "${1-}" = --help ]; then
    sed -n '/^# shellcheck/d; 2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
fi

points=0
failures=0
WORK=$(mktemp -d "${TMPDIR:-/tmp}/cadastre-test.XXXXXX") || { echo "Bail out! no temporary directory"; exit 1; }
trap 'rm -rf "$WORK"' EXIT

if [ ! -e "$BUILD/libcadastre.so" ] || [ ! -e "$BUILD/libcadastre.a" ]; then
    echo "Bail out! $BUILD/libcadastre.so or .a is missing: run make in $ROOT first"
    exit 1
fi

# ok NAME COMMAND...: one test point, passed when the command succeeds. What it printed is shown if it does not.
ok() {
    local name=$1
    shift
    points=$((points + 1))
    if "$@" >"$WORK/.output" 2>&1; then
        echo "ok $points - $name"
    else
        echo "not ok $points - $name"
        echo "#   failed: $*"
        sed 's/^/#   /' "$WORK/.output" | head -40
        failures=$((failures + 1))
        return 1
    fi
}

# skip NAME REASON: one test point that cannot be tried here.
skip() {
    points=$((points + 1))
    echo "ok $points - $1 # SKIP $2"
}

# needs COMMAND NAME: whether the command is there. Where it is not, the point NAME is skipped, or fails in CI.
needs() {
    command -v "$1" >/dev/null && return 0
    if [ "${CI-}" = true ]; then
        ok "$2" false "$1 is not installed"
    else
        skip "$2" "$1 is not installed"
    fi
    return 1
}

# compile ARGUMENTS...: the C compiler with the flags of the tests.
compile() {
    # shellcheck disable=SC2086  # flags are words
    $CC $CFLAGS_OF_TESTS "$@"
}

# contains TEXT FILE, lacks TEXT FILE
contains() {
    grep -qF -- "$1" "$2" || { echo "expected: $1"; echo "in:"; cat "$2"; return 1; }
}

lacks() {
    ! grep -F -- "$1" "$2"
}

# done_testing: the plan, and the script's result.
done_testing() {
    echo "1..$points"
    exit $((failures > 0))
}
