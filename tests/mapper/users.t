#!/usr/bin/env bash
# usage: tests/mapper/users.t
# The mapper as its users have it: compiled into a program, linked by what pkg-config says, from C and C++, and under
# another malloc. Holds the manual page against the header.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

CXX=${CXX:-g++}
user=$ROOT/tests/mapper/programs/user.c
library=$WORK/root/usr/lib

is_fine() {
    "$@" >"$WORK/out" && contains fine "$WORK/out"
}

# As the issue has it, and no source of the project's beside it but the header.
compiles_alone() {
    mkdir "$WORK/alone" && cp "$ROOT/src/mapper/memory_mapper.c" "$ROOT/include/memory_mapper.h" "$WORK/alone" &&
        cp "$user" "$WORK/alone/main.c" && cd "$WORK/alone" &&
        $CC -Wall -Wextra -Werror "$@" memory_mapper.c main.c -o test -lrt && is_fine ./test && rm -r "$WORK/alone"
}
for flags in '' -std=c11 -std=gnu17 '-O2 -D_FORTIFY_SOURCE=2' '-O3 -flto' -pedantic; do
    # shellcheck disable=SC2086  # flags are words
    ok "compiles alone${flags:+ with $flags}" compiles_alone $flags
done

package() {
    PKG_CONFIG_PATH=$library/pkgconfig PKG_CONFIG_SYSROOT_DIR=$WORK/root pkg-config "$@" memory_mapper
}

builds() {
    eval "$* $(package --cflags) \$user $(package --libs) -o \$WORK/linked" &&
        is_fine env LD_LIBRARY_PATH="$library" "$WORK/linked" &&
        LD_LIBRARY_PATH=$library ldd "$WORK/linked" | grep -F "$library/libmemory_mapper.so"
}

builds_static() {
    eval "$CC -static $(package --cflags) \$user $(package --static --libs) -o \$WORK/static" && is_fine "$WORK/static"
}

ok "make install" make -C "$ROOT" install PREFIX=/usr DESTDIR="$WORK/root"
if needs pkg-config "a program builds by pkg-config's flags"; then
    ok "a program builds by pkg-config's flags" builds "$CC"
    ok "and runs under our malloc" env LD_PRELOAD="$BUILD/libcadastre.so" LD_LIBRARY_PATH="$library" "$WORK/linked"
    ok "it builds with --static" builds_static
    ! needs "$CXX" "as C++, it builds" || ok "as C++, it builds" builds "$CXX -x c++ -fpermissive -w"
fi

# A program may have any name that the library has inside.
own_names() {
    nm --defined-only "$BUILD/libmemory_mapper.a" | awk '$2 ~ /[a-z]/ && $3 ~ /^[a-z_]+$/ { print $3 }' >"$WORK/inside"
    grep -qx live "$WORK/inside" || { echo "live is no name inside the archive"; return 1; }
    { cat "$user"; sed 's/.*/int own_& __asm__("&") = 1;/' "$WORK/inside"; } >"$WORK/own.c"
    $CC -w -static -I"$ROOT/include" "$WORK/own.c" "$BUILD/libmemory_mapper.a" -o "$WORK/own" && is_fine "$WORK/own"
}
ok "a program may define the names that the library has inside" own_names

# -------------------------------------------------------------------------------------------- the manual page
header=$ROOT/include/memory_mapper.h
page=$WORK/root/usr/share/man/man3/memory_mapper.3

declared() {
    sed -nE 's/^[a-z].*[ *](\w+)\(.*\);$/\1/p' | sort
}

section() {
    sed -n "/^\.SH $1\$/,/^\.SH/p" "$page"
}

synopsis() {
    section SYNOPSIS | sed -nE '/^\.BI? +[a-z"]/{s/^\.BI? +//; s/"//g; p}'
}

names_fit() {
    diff <(declared <"$header") <(section NAME | sed '/^\\-/d; /^\./d' | tr -s ', ' '\n' | sed '/^$/d' | sort)
}

# Declarations that contradict each other do not compile.
synopsis_fits() {
    { echo '#include <memory_mapper.h>'; synopsis; } >"$WORK/synopsis.c"
    diff <(declared <"$header") <(synopsis | declared) && compile -fsyntax-only "$WORK/synopsis.c"
}

fields() {
    sed -nE "/^typedef struct s_mapping \{/,/^\}/{s@/\*.*@@; s/^ +//; s/ +\$//; /;\$/p}" "$1"
}

structure_fits() {
    [ "$(fields "$page" | wc -l)" -eq 7 ] && diff <(fields "$header" | sort) <(fields "$page" | sort)
}

links_fit() {
    diff <(declared <"$header") <(find -L "${page%/*}" -samefile "$page" -printf '%f\n' |
        sed 's/\.3$//; /^memory_mapper$/d' | sort)
}

formats() {
    groff -t -man -ww -Tutf8 "$page" 2>&1 >"$WORK/formatted" | tee "$WORK/warnings"
    [ -s "$WORK/formatted" ] && [ ! -s "$WORK/warnings" ]
}

ok "memory_mapper.3 names the header's functions" names_fit
ok "has them in its synopsis, with their types" synopsis_fits
ok "shows t_mapping as it is" structure_fits
ok "and each function has a page" links_fit
# shellcheck source=../../scripts/common
[ "${CI-}" != true ] || (. "$ROOT/scripts/common" && need groff-base:groff -- "to format the manual page")
! needs groff "it formats without a warning" || ok "it formats without a warning" formats

done_testing
