#!/usr/bin/env bash
# usage: tests/api/install.t
# Installs into a temporary DESTDIR, builds a program by what pkg-config says, runs it, and uninstalls.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

destination=$WORK/root
library=$destination/opt/cadastre/lib
program=$ROOT/tests/api/programs/every_name.c

install_there() {
    make -C "$ROOT" "$1" PREFIX=/opt/cadastre DESTDIR="$destination"
}

package() {
    PKG_CONFIG_PATH=$library/pkgconfig PKG_CONFIG_SYSROOT_DIR=$destination pkg-config "$@" cadastre
}

ok "make install" install_there install
for file in lib/libcadastre.so lib/libcadastre.a lib/pkgconfig/cadastre.pc include/cadastre.h; do
    ok "$file is there and readable by all" test -n "$(find "$destination/opt/cadastre/$file" -perm -444)"
done
ok "nothing else is there" test "$(find "$destination" -type f | wc -l)" -eq 4

builds_dynamic() {
    # shellcheck disable=SC2046  # flags are words
    $CC -w $(package --cflags) "$program" $(package --libs) -pthread -o "$WORK/dynamic" &&
        LD_LIBRARY_PATH=$library "$WORK/dynamic" >"$WORK/out" && contains fine "$WORK/out" &&
        LD_LIBRARY_PATH=$library ldd "$WORK/dynamic" | grep -F "$library/libcadastre.so"
}

builds_static() {
    # shellcheck disable=SC2046
    $CC -w -static $(package --cflags) "$program" $(package --static --libs) -o "$WORK/static" &&
        "$WORK/static" >"$WORK/out" && contains fine "$WORK/out"
}

preloads() {
    LD_PRELOAD=$library/libcadastre.so grep -F "$library/libcadastre.so" /proc/self/maps
}

if needs pkg-config "pkg-config knows the package"; then
    ok "pkg-config knows the package" package --exists
    ok "pkg-config has its version" test -n "$(package --modversion)"
    ok "a program builds by pkg-config's flags and runs" builds_dynamic
    ok "so it does with --static" builds_static
fi
ok "the installed library can be preloaded" preloads
ok "make uninstall" install_there uninstall
ok "leaves no file" test "$(find "$destination" -type f | wc -l)" -eq 0

done_testing
