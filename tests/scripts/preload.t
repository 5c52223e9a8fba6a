#!/usr/bin/env bash
# usage: tests/scripts/preload.t
# scripts/preload as a front to commands: it is called in every way, from every place, and with every standard output.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=small.sh
. "$(dirname "$0")/small.sh"

preload=$ROOT/scripts/preload
library=$(realpath "$BUILD/libcadastre.so")

# loads LIBRARY PRELOAD...: a command started by PRELOAD has LIBRARY mapped.
loads() {
    local wanted=$1
    shift
    "$@" grep -F "$wanted" /proc/self/maps
}

# ------------------------------------------------------------------------------------------ its own command line
ok "runs a command on the library" loads "$library" "$preload"
ok "-- may stand before it" loads "$library" "$preload" --
ok "its exit status is the command's" exits_with 7 "$preload" sh -c 'exit 7'
ok "or tells that there is none" exits_with 127 "$preload" "$WORK/no-such-command"
ok "an option that it has not is named" fails_saying '--bogus: no such option' "$preload" --bogus true
ok "but options of the command are the command's" exits_with 1 "$preload" -- test --bogus = --other
ok "standard input is the command's" test "$(echo fine | "$preload" cat)" = fine
says_other() {
    local preloaded
    preloaded=$(LD_PRELOAD=$WORK/other.so "$preload" sh -c 'echo "$LD_PRELOAD"' 2>/dev/null)
    [[ $preloaded == *"libcadastre.so:$WORK/other.so" ]] || { echo "$preloaded"; return 1; }
}
ok "other libraries come after" says_other

# ------------------------------------------------------------------------------------------ from where it is called
ln -s "$preload" "$WORK/linked"
mkdir "$WORK/bin"
ln -s ../linked "$WORK/bin/cadastre"
ok "works through links to it" loads "$library" "$WORK/bin/cadastre"
from_elsewhere() {
    cd / && PATH=$WORK/bin:$PATH loads "$library" cadastre
}
ok "and on the PATH" from_elsewhere

# ------------------------------------------------------------------------------------------ where the project lies
small_tree "$WORK/a tree"
ok "the tree may have a space in its path" loads "$(realpath "$WORK/a tree")/build/libcadastre.so" \
    "$WORK/a tree/scripts/preload"
keeps_directories() {
    local directories
    directories=$(LD_LIBRARY_PATH=/x "$WORK/a tree/scripts/preload" sh -c 'echo "$LD_LIBRARY_PATH"')
    [ "$directories" = "$(realpath "$WORK/a tree/build"):/x" ] || { echo "$directories"; return 1; }
}
ok "which keeps the user's directories" keeps_directories
mv "$WORK/a tree" "$WORK/a:tree"
ok "but no colon" fails_saying "move the tree" "$WORK/a:tree/scripts/preload" true

# ------------------------------------------------------------------------------------------ standard output
closed() {
    "$@" >&-
}
full() {
    "$@" >/dev/full
}
ok "a command may be run without" closed exits_with 5 "$preload" sh -c 'exit 5'
ok "the demonstration wants one" fails_saying "standard output is closed" closed "$preload"
says_full() {
    exits_with 1 full "$preload" 2>"$WORK/err" && contains "preload: standard output" "$WORK/err"
}
ok "and says when it cannot be written to" says_full
ok "so does the help" exits_with 1 full "$preload" --help

done_testing
