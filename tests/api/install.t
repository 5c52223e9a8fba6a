#!/usr/bin/env bash
# usage: tests/api/install.t
# Installs for others to use (under a umask that would keep it to oneself, into a path with a space), builds programs by
# what pkg-config says, runs them, and uninstalls.
# shellcheck disable=SC2317,SC2034  # functions are called through ok, variables used by eval
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

CXX=${CXX:-g++}
destination=$WORK/root
prefix='/opt/a prefix'
library=$destination$prefix/lib
program=$ROOT/tests/api/programs/every_name.c

install_there() (
    umask 077
    make -C "$ROOT" "$1" PREFIX="$prefix" DESTDIR="$destination"
)

# The flags are words of the shell: paths in them may be quoted.
package() {
    PKG_CONFIG_PATH=$library/pkgconfig PKG_CONFIG_SYSROOT_DIR=$destination pkg-config "$@" cadastre
}

mode() {
    [ "$(stat -c %a "$2")" = "$1" ] || { stat "$2"; return 1; }
}

chmod 755 "$WORK"
mkdir -p "$destination$prefix/include"
chmod 775 "$destination$prefix/include"
ok "make install" install_there install
for file in lib/libcadastre.a lib/pkgconfig/cadastre.pc include/cadastre.h; do
    ok "$file is there, for all to read" mode 644 "$destination$prefix/$file"
done
ok "lib/libcadastre.so is there, for all to run" mode 755 "$destination$prefix/lib/libcadastre.so"
ok "nothing else is there" test "$(find "$destination" -type f | wc -l)" -eq 4
for directory in lib lib/pkgconfig; do
    ok "$directory was made, for all to enter" mode 755 "$destination$prefix/$directory"
done
ok "include was there, and is as it was" mode 775 "$destination$prefix/include"

builds_dynamic() {
    eval "$CC -w $(package --cflags) \$program $(package --libs) -pthread -o \$WORK/dynamic" &&
        LD_LIBRARY_PATH=$library "$WORK/dynamic" >"$WORK/out" && contains fine "$WORK/out" &&
        LD_LIBRARY_PATH=$library ldd "$WORK/dynamic" | grep -F "$library/libcadastre.so"
}

builds_static() {
    eval "$CC -w -static $(package --cflags) \$program $(package --static --libs) -o \$WORK/static" &&
        "$WORK/static" >"$WORK/out" && contains fine "$WORK/out"
}

# Programs without a call of malloc: of them, a linker that takes only the libraries needed may not see that ours is.
echo '#include <string.h>
    int main(int argc, char **argv) { return strdup(argv[argc - 1]) == NULL; }' >"$WORK/unnamed.c"
echo 'int main(int argc, char **) { return new int(argc) == nullptr; }' >"$WORK/unnamed.cc"

needs_ours() {
    local source=$1
    shift
    eval "$* -Wl,--as-needed \$source $(package --libs) -o \$WORK/unnamed" &&
        objdump -p "$WORK/unnamed" | grep 'NEEDED *libcadastre.so'
}

# glibc's own allocator would bring this one along.
holds_ours() {
    local source=$1
    shift
    eval "$* -static \$source $(package --static --libs) -o \$WORK/unnamed" && "$WORK/unnamed" &&
        nm "$WORK/unnamed" | grep ' T cadastre_malloc$' && ! nm "$WORK/unnamed" | grep ' _int_malloc$'
}

preloads() {
    install -D -m 755 "$library/libcadastre.so" "$WORK/preloaded/libcadastre.so" &&
        LD_PRELOAD=$WORK/preloaded/libcadastre.so grep -F "$WORK/preloaded/libcadastre.so" /proc/self/maps
}

if needs pkg-config "pkg-config knows the package"; then
    ok "pkg-config knows the package" package --exists
    ok "pkg-config has its version" test -n "$(package --modversion)"
    ok "a program builds by pkg-config's flags and runs" builds_dynamic
    ok "so it does with --static" builds_static
    ok "C that does not name malloc needs the library" needs_ours "$WORK/unnamed.c" "$CC"
    ok "and with --static has it" holds_ours "$WORK/unnamed.c" "$CC"
    if needs "$CXX" "C++ that does not name malloc needs the library"; then
        ok "C++ that does not name malloc needs the library" needs_ours "$WORK/unnamed.cc" "$CXX"
        ok "and with --static has it" holds_ours "$WORK/unnamed.cc" "$CXX"
    fi
fi
ok "the installed library can be preloaded" preloads
ok "make uninstall" install_there uninstall
ok "leaves no file" test "$(find "$destination" -type f | wc -l)" -eq 0

done_testing
