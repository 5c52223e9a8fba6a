#!/usr/bin/env bash
# usage: tests/scripts/options.t
# scripts/check and scripts/test: what they say to what they cannot do, links to them, and a tree with a space in its
# path.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=small.sh
. "$(dirname "$0")/small.sh"

closed() {
    "$@" >&-
}
shows_help() {
    "$1" --help >"$WORK/out" && contains "usage: scripts/$(basename "$1")" "$WORK/out"
}
for script in check test; do
    ln -s "$ROOT/scripts/$script" "$WORK/$script"
    ok "$script: --help, through a link" shows_help "$WORK/$script"
    ok "$script: an option that it has not is named" \
        fails_saying '--bogus: no such option' "$ROOT/scripts/$script" --bogus
    ok "$script: wants standard output" fails_saying 'standard output is closed' closed "$ROOT/scripts/$script"
    full_help() {
        LC_ALL=C fails_saying 'No space left' "$ROOT/scripts/$script" --help >/dev/full
    }
    ok "$script: help that cannot be written is a failure" full_help
done
ok "check: so is a gate" fails_saying 'speling: ' "$ROOT/scripts/check" speling
ok "test: so is a group without --only" fails_saying 'api: ' "$ROOT/scripts/test" api
ok "test: --only wants a pattern" fails_saying '--only wants' "$ROOT/scripts/test" --only
ok "test: that fits a test" fails_saying 'no test has no-such-test' "$ROOT/scripts/test" --only no-such-test

# ------------------------------------------------------------------------------------------ a tree with a space
tree="$WORK/a tree"
small_tree "$tree"
mkdir -p "$tree/tests/some" "$tree/tests/api"
cp "$ROOT/tests/tap.h" "$tree/tests"
cp "$ROOT/tests/api/tap.sh" "$tree/tests/api"
cat >"$tree/tests/some/preloads.t" <<'END'
#!/usr/bin/env bash
. "$(dirname "$0")/../api/tap.sh"
ok "preloads" env LD_PRELOAD="$BUILD/libcadastre.so" grep -F "$(realpath "$BUILD/libcadastre.so")" /proc/self/maps
done_testing
END
cat >"$tree/tests/api/linked.c" <<'END'
extern void *cadastre_malloc(unsigned long);
extern int puts(const char *);
int main(void) {
    return !cadastre_malloc(1) || puts("1..1\nok 1") < 0;
}
END
chmod +x "$tree/tests/some/preloads.t"
passes() {
    "$tree/scripts/test" >"$WORK/out" 2>&1 || { cat "$WORK/out"; return 1; }
    contains 'Files=3, Tests=3' "$WORK/out" && lacks 'cannot be preloaded' "$WORK/out"
}
if needs prove "test: in a tree with a space"; then
    ok "test: in a tree with a space" passes
    echo 'exit 1' >>"$tree/tests/some/preloads.t"
    sed -i 's/^done_testing/false \&\& &/' "$tree/tests/some/preloads.t"
    ok "test: fails there when a test does" exits_with 1 "$tree/scripts/test" --only some
    ok "test: leaves nothing behind" test -z "$(find "${TMPDIR:-/tmp}" -maxdepth 2 -lname "$tree")"
fi

done_testing
