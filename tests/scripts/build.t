#!/usr/bin/env bash
# usage: tests/scripts/build.t
# The Makefile in a builder's hands: flags of one's own, flags that change, another compiler, another machine's tools,
# a path with a space, many jobs.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=small.sh
. "$(dirname "$0")/small.sh"

# ------------------------------------------------------------------------------------------ a small library
tree="$WORK/a tree"
small_tree "$tree"
cd "$tree" || exit 1
find . -exec touch -d '2 hours ago' {} +
echo 'extern void *cadastre_malloc(unsigned long);
    int main(void) { return cadastre_malloc(1) == 0; }' >"$WORK/user.c"

# The archive has code that any linker can take, and of its own names none is to be seen.
archive_is_good() {
    nm build/libcadastre.a | grep ' t os_take$' &&
        gcc -fno-lto "$WORK/user.c" build/libcadastre.a -o "$WORK/user" && "$WORK/user"
}

builds_quietly() {
    [ -z "$(make -s "$@" 2>&1 | tee "$WORK/said")" ] || { cat "$WORK/said"; return 1; }
}

ok "builds in a directory with a space, and make -s says nothing" builds_quietly
ok "once is enough" make -q
object=build/release/src/os.o
# All that was built is from an hour ago, so that what is built now can be told from it.
touch -d '1 hour ago' "$WORK/hour"
age() {
    find build -type f -exec touch -r "$WORK/hour" {} +
}
builds_anew() {
    age
    make -s "$@" && [ "$object" -nt "$WORK/hour" ]
}
ok "other CFLAGS build anew" builds_anew CFLAGS="-O1 -DNAME='\"a b\"'"
ok "as do other LDFLAGS" builds_anew LDFLAGS=-Wl,-O1
ok "and another CC" builds_anew CC=cc
ok "with the same, once is enough" make -q CC=cc
takes_what_there_is() {
    age
    make -s install DESTDIR="$WORK/root" && [ ! "$object" -nt "$WORK/hour" ]
}
ok "install takes what there is" takes_what_there_is
ok "or builds it first" make -s clean install DESTDIR="$WORK/root"

ok "CFLAGS=-flto builds" make -s CFLAGS=-flto
ok "an archive of code" archive_is_good
if command -v clang >/dev/null; then
    ok "clang builds, and says nothing" builds_quietly CC=clang
    ok "with -flto, too" builds_quietly CC=clang CFLAGS=-flto
    ok "an archive of code, again" archive_is_good
    ok "-pg is refused" fails_saying 'use gcc' make -s CC=clang CFLAGS=-pg
else
    skip "clang builds" "clang is not installed"
fi
ok "-fsanitize=address is refused" fails_saying 'make asan' make -s CFLAGS=-fsanitize=undefined,address

# Tools of another machine, by their names: they are this one's.
mkdir "$WORK/tools"
for tool in gcc ar objcopy; do
    ln -s "$(command -v $tool)" "$WORK/tools/other-machine-$tool"
done
cross_builds() {
    age
    PATH=$WORK/tools:$PATH make -s CROSS=other-machine- || return
    [ -e build/other-machine/libcadastre.so ] && [ -e build/other-machine/libcadastre.a ] &&
        [ -z "$(find build -path build/other-machine -prune -o -type f -newer "$WORK/hour" -print | tee /dev/stderr)" ]
}
ok "CROSS= has a directory of its own" cross_builds

ok "all variants at once, by many jobs" make -s -j8 clean all debug asan tsan
ok "are there" test -e build/debug/libcadastre.so -a -e build/asan/libcadastre.a -a -e build/tsan/libcadastre.a

# ------------------------------------------------------------------------------------------ the whole library
mkdir "$WORK/whole"
cp -r "$ROOT"/{Makefile,include,src,arena} "$WORK/whole"
cd "$WORK/whole" || exit 1
works_preloaded() {
    [ "$(LD_PRELOAD=$PWD/build/libcadastre.so bash -c 'printf "%s\n" b a | sort' 2>&1)" = $'a\nb' ]
}
ok "-pg and -fsanitize=undefined build" make -s -j2 CFLAGS='-pg -fsanitize=undefined -fno-sanitize-recover'
ok "what can be preloaded" works_preloaded
if command -v clang >/dev/null; then
    ok "clang has no warning" builds_quietly -j2 CC=clang
    ok "its library can be preloaded" works_preloaded
else
    skip "clang has no warning" "clang is not installed"
fi

done_testing
