#!/usr/bin/env bash
# usage: tests/api/install.t
# Installs for others to use (under a umask that would keep it to oneself, into a path with a space), builds programs by
# what pkg-config says, runs them, and uninstalls. Holds the manual pages against the header and the table of options.
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
files=(lib/lib{cadastre,memory_mapper}.a lib/pkgconfig/{cadastre,memory_mapper}.pc share/man/man7/cadastre.7)
for file in "$ROOT"/include/*.h; do
    files+=("include/${file##*/}")
done
for file in "$ROOT"/include/*.3; do
    files+=("share/man/man3/${file##*/}")
done
for file in "${files[@]}"; do
    ok "$file is there, for all to read" mode 644 "$destination$prefix/$file"
done
for file in lib/lib{cadastre,memory_mapper}.so; do
    ok "$file is there, for all to run" mode 755 "$destination$prefix/$file"
done
ok "nothing else is there" test "$(find "$destination" -type f | wc -l)" -eq $((${#files[@]} + 2))
for directory in lib lib/pkgconfig share/man/man3 share/man/man7; do
    ok "$directory was made, for all to enter" mode 755 "$destination$prefix/$directory"
done
ok "include was there, and is as it was" mode 775 "$destination$prefix/include"

# ------------------------------------------------------------------------------------------ the manual pages
header=$ROOT/include/cadastre.h
man3=$destination$prefix/share/man/man3
man7=$destination$prefix/share/man/man7

# agree COMMAND COMMAND: they print the same, and not nothing. The commands may have arguments.
agree() {
    [ -n "$($1)" ] && diff <($1) <($2)
}

# The names of functions in the C declarations on standard input, a line each.
declared() {
    sed -nE 's/^[a-z].*[ *]((free|malloc|cadastre|show)_\w+)\(.*/\1/p' | sort
}

in_header() {
    declared <"$header"
}

section() {
    sed -n "/^\.SH $1\$/,/^\.SH/p" "$man3/cadastre.3"
}

in_name() {
    section NAME | sed '/^\\-/d; /^\./d' | tr -s ', ' '\n' | sed '/^$/d' | sort
}

# As C.
synopsis() {
    section SYNOPSIS | sed -nE '/^\.BI? +[a-z"]/{s/^\.BI? +//; s/"//g; p}'
}

in_synopsis() {
    synopsis | declared
}

# Declarations that contradict each other do not compile.
synopsis_fits_header() {
    { echo '#include <cadastre.h>'; synopsis; } >"$WORK/synopsis.c" && compile -fsyntax-only "$WORK/synopsis.c"
}

# The C library's own are not ours to describe.
without_standard_names() {
    in_header | grep -v '^free_'
}

links() {
    find -L "$man3" -name '*_*.3' -samefile "$man3/cadastre.3" -printf '%f\n' | sed 's/\.3$//' | sort
}

# fields STRUCTURE FILE: without comments and the amount of space.
fields() {
    sed -nE "/^(typedef )?struct $1 \{/,/^\}/{s@/\*.*@@; s/^ +//; s/ +\$//; /;\$/p}" "$2"
}

fields_in_header() {
    fields "$1" "$header"
}

fields_in_page() {
    fields "$1" "$man3/cadastre.3"
}

# What the library says of its options.
env CADASTRE_HELP=1 LD_PRELOAD="$BUILD/libcadastre.so" true 2>"$WORK/help"

options() {
    sed -nE 's/^  (CADASTRE_[A-Z_]+)=.*/\1/p' "$WORK/help" | sort
}

in_page() {
    sed -nE '/^\.TP/{n; s/^\.B[RI] (CADASTRE_[A-Z_]+).*/\1/p}' "$man7/cadastre.7" | sort
}

# The first cells of the table.
in_readme() {
    sed -nE 's/^\| `(CADASTRE_[A-Z_]+)=.*/\1/p' "$ROOT/README.md" | sort
}

has_aliases() {
    local name count=0
    for name in $(sed -nE 's/.*; also (.*)/\1/p' "$WORK/help" | sed 's/ (if set at all)//g' | tr -d ,); do
        count=$((count + 1))
        contains "$name" "$1" || return 1
    done
    [ "$count" -gt 0 ]
}

formats() {
    groff -t -man -ww -Tutf8 "$1" >"$WORK/formatted" 2>"$WORK/warnings"
    cat "$WORK/warnings"
    [ -s "$WORK/formatted" ] && [ ! -s "$WORK/warnings" ]
}

ok "cadastre.3 names the header's functions" agree in_header in_name
ok "and has them in its synopsis" agree in_header in_synopsis
ok "with their types" synopsis_fits_header
for structure in cadastre_show cadastre_block cadastre_memory; do
    ok "it shows struct $structure as it is" agree "fields_in_header $structure" "fields_in_page $structure"
done
ok "each function of ours has a page" agree without_standard_names links
ok "cadastre.7 has the options" agree options in_page
ok "and their aliases" has_aliases "$man7/cadastre.7"
ok "so has README.md" agree options in_readme
ok "and their aliases" has_aliases "$ROOT/README.md"
# shellcheck source=../../scripts/common
[ "${CI-}" != true ] || (. "$ROOT/scripts/common" && need groff-base:groff -- "to format the manual pages")
if needs groff "the pages format without a warning"; then
    ok "cadastre.3 formats without a warning" formats "$man3/cadastre.3"
    ok "cadastre.7 formats without a warning" formats "$man7/cadastre.7"
fi

# ------------------------------------------------------------------------------------------------- building
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
ok "leaves no file" test "$(find "$destination" ! -type d | wc -l)" -eq 0

done_testing
