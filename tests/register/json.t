#!/usr/bin/env bash
# usage: tests/register/json.t
# show_alloc_mem_ex's JSON lines, of a heap at rest and of one that 16 threads change: every line is JSON for a reader
# that is not ours, and what they say adds up.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

needs python3 "JSON lines" || done_testing
ok "a program" compile "$ROOT/tests/register/programs/shower.c" -L"$BUILD" -lcadastre -Wl,-rpath,"$BUILD" -pthread \
    -o "$WORK/shower" || done_testing

is_json() {
    local line count=0
    # As a whole is quick; alone, so that none leans on its neighbours, is tried on one of each type.
    python3 -m json.tool --json-lines "$1" /dev/null || return
    while IFS= read -r line; do
        python3 -m json.tool - /dev/null <<<"$line" || return
        count=$((count + 1))
    done < <(for type in zone slab block large total; do grep -m1 "\"type\":\"$type\"" "$1"; done)
    [ "$count" -eq 5 ]
}

for how in quiet busy; do
    if [ "$how" = busy ]; then set -- threads; else set --; fi
    ok "shown, $how" "$WORK/shower" "$@"
    cp "$WORK/.output" "$WORK/$how"
    ok "every line is JSON, $how" is_json "$WORK/$how"
    ok "and they add up, $how" python3 "$ROOT/tests/register/programs/check_json.py" "$WORK/$how" "$how"
done

done_testing
