#!/usr/bin/env bash
# usage: tests/scripts/evaluate.t
# scripts/evaluate: every item holds of this library under the school's name, and each fault that a malloc may have is
# found by the item that asks for it.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

evaluate=$ROOT/scripts/evaluate

ok "--help" "$evaluate" --help
"$evaluate" --help >"$WORK/out"
ok "says what it is for" contains "usage: scripts/evaluate" "$WORK/out"
ok "another option is refused" test "$("$evaluate" --other >/dev/null 2>&1; echo $?)" -eq 1
ok "so is a file that is none" test "$("$evaluate" "$WORK/none" >/dev/null 2>&1; echo $?)" -eq 1
ok "and a library without a malloc" test "$("$evaluate" "$BUILD/../README.md" >/dev/null 2>&1; echo $?)" -eq 1

ok "the whole scale" "$evaluate"
ok "HOSTTYPE names the library" make -C "$ROOT" ft_malloc HOSTTYPE=toy
ok "and libft_malloc.so is that" test "$(readlink "$BUILD/libft_malloc.so")" = libft_malloc_toy.so
rm -f "$BUILD/libft_malloc_toy.so"
ok "without it, the machine's name does" make -C "$ROOT" ft_malloc HOSTTYPE=
ok "and libft_malloc.so is that" test "$(readlink "$BUILD/libft_malloc.so")" = "libft_malloc_$(uname -m)_$(uname -s).so"

linked() {
    echo 'int main(void) { void *volatile p = __builtin_malloc(1); return !p; }' >"$WORK/linked.c"
    compile "$WORK/linked.c" -L"$BUILD" -Wl,--no-as-needed -lft_malloc -Wl,-rpath,"$BUILD" -o "$WORK/linked" &&
        "$WORK/linked" && ldd "$WORK/linked" | grep -F "$BUILD/libft_malloc.so"
}
ok "a program can be linked with it" linked

ok "a library with a fault" compile -shared -fPIC "$ROOT/tests/scripts/programs/faulty.c" -L"$BUILD" -lft_malloc \
    -Wl,-rpath,"$BUILD" -ldl -o "$WORK/faulty.so" || done_testing

# finds FAULT ITEM...: these items fail of it; items are the numbers of their lines.
finds() {
    local fault=$1 failing status
    shift
    FAULT=$fault "$evaluate" "$WORK/faulty.so" >"$WORK/out" 2>&1
    status=$?
    cat "$WORK/out"
    failing=$(sed 1d "$WORK/out" | grep -n '^FAIL' | cut -d: -f1 | paste -sd' ')
    test "$failing" = "$*" && test "$status" -eq $(($# > 0))
}
ok "without one it passes" finds ''
ok "a page of its own for each block" finds wasteful 1 2
ok "blocks that are never used again" finds keeps 2 8
ok "a realloc that forgets" finds forgets 3 4
ok "a realloc that does not grow" finds stays 3 4
ok "a free that cannot take NULL" finds null 5
ok "a free that takes any pointer into a block" finds believes 6
ok "a realloc that gives a block for such a one" finds gives 7
ok "one that never ends" finds hangs 7
ok "wrong sizes in the map" finds sizes 8 9 10
ok "a block that the map lacks" finds misses 8
ok "zones of 50 blocks, that begin anywhere" finds zones 9 10

done_testing
