#!/usr/bin/env bash
# chromium and firefox-esr, with a window on a display in memory: each has a malloc of its own, but not every name of
# the family. A page with a script is shown, and nothing dies for ten seconds.
set -u
source "$(dirname "$0")/lib.sh"
begin browsers chromium:chromium firefox-esr:firefox-esr xvfb:Xvfb python3:/usr/bin/python3

# Neither is preloaded, nor is what it costs the round's.
helper() {
    local name=$1
    shift
    (
        cd "$TMP" || exit 1
        exec "$@"
    ) >"$TMP/$name.out" 2>"$TMP/$name.err" </dev/null &
}

# The numbers that the display and the server of pages took, which they print; empty as long as they have not.
display() {
    sed -n 's/^\([0-9]\+\)$/\1/p' "$TMP/display.out"
}

port() {
    sed -n 's/.* port \([0-9]\+\) .*/\1/p' "$TMP/pages.out"
}

# are_there: for await.
are_there() {
    [[ $(display) && $(port) ]]
}

# fetched NAME: the page's script has run to its end.
fetched() {
    grep -q "GET /done?$ROUND-$1-20000 " "$TMP/pages.err"
}

# outlives NAME SECONDS: the browser is there until then.
outlives() {
    local until=$((SECONDS + $1))
    while ((SECONDS < until)); do
        ! gone "$SERVER" || { tail -n 20 "$LOG/"*.err && return 1; }
        sleep 0.1
    done
}

# no_deaths NAME: no process of the browser's says that another one died.
no_deaths() {
    ! grep -a -i -e 'minidump' -e 'SIGSEGV' -e 'Segmentation' -e 'exited unexpectedly' -e 'signal 6' "$LOG/$1".*
}

# browse NAME EXE COMMAND...
browse() {
    local name=$1 exe=$2
    shift 2
    mkdir -p "$WORK/home" "$WORK/$name"
    step "$name"
    start "$name" DISPLAY=":$(display)" HOME="$WORK/home" "$@" "http://127.0.0.1:$(port)/browsers.html#$ROUND-$name"
    check "$name: its script runs to the end" await 60 fetched "$name"
    check "$name: its allocator" allocator_in_use "$exe" 1
    check "$name: it is there ten seconds later" outlives 10
    check "$name: nothing of it died" no_deaths "$name"
    peak_of "$SERVER"
    kill "$SERVER" 2>/dev/null
    check "$name: it ends" await 30 ended "$exe"
}

ended() {
    [[ -z $(processes "$WORK" "$1") ]]
}

round() {
    browse firefox firefox-esr firefox-esr --no-remote --profile "$WORK/firefox"
    # Its own sandbox is not for root, nor for where there are no namespaces.
    browse chromium chromium chromium --no-sandbox --disable-gpu --no-first-run --user-data-dir="$WORK/chromium"
}

helper display Xvfb -displayfd 1 -screen 0 1024x768x24 -nolisten tcp
helper pages "$PYTHON" -u -m http.server --bind 127.0.0.1 --directory "$HERE" 0
check "a display and a server of pages" await 30 are_there || finish
both round
# shellcheck disable=SC2046 # numbers of processes
kill $(jobs -p) 2>/dev/null
finish
