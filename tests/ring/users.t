#!/usr/bin/env bash
# usage: tests/ring/users.t
# The ring as its users have it: compiled into a program beside the mapper, from C and C++, with README.md's example,
# which does what it says. Holds the manual page against the header.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

CXX=${CXX:-g++}
# Names in /dev/shm are everybody's.
ring=/lines-$$
trap 'rm -rf "$WORK" "/dev/shm$ring"' EXIT

# -------------------------------------------------------------------------------------------- the example
section() {
    sed -n '/^## A ring between processes$/,/^## /p' "$ROOT/README.md"
}

# example FILE: the program that the section shows under that name.
example() {
    section | sed -n "/^\`$1\`/,/^\`\`\`\$/p" | sed '1,/^```c$/d; /^```$/d'
}

# What is typed, and what it prints.
commands() {
    section | sed -n 's/^\$ //p'
}

output() {
    section | awk '/^\$ / { shown = 1; next } /^```/ { shown = 0 } shown'
}

runs_as_printed() {
    local program
    for program in writer reader; do
        example "$program.c" | sed "s,/lines,$ring,g" >"$WORK/example/$program.c"
        [ -s "$program.c" ] || { echo "README.md shows no $program.c"; return 1; }
    done
    commands >run.sh
    [ -s run.sh ] && output >expected && timeout 60 bash ./run.sh >out && diff expected out
}
mkdir -p "$WORK/example"
cd "$WORK/example" || exit 1
ln -s "$ROOT/include" "$BUILD" .
ok "README.md's example runs as printed" runs_as_printed
ok "and leaves nothing in /dev/shm" test ! -e "/dev/shm$ring"

# --------------------------------------------------------------------------------------------- compiling it
mkdir "$WORK/alone"
cp "$ROOT"/src/mapper/* "$ROOT"/include/{memory_mapper,ring_buffer}.h writer.c "$WORK/alone"
compiles_alone() (
    cd "$WORK/alone" && $CC -Wall -Wextra -Werror "$@" -I. memory_mapper.c ring_buffer.c writer.c -o test -lrt
)
for flags in '' -std=gnu17 '-O2 -D_FORTIFY_SOURCE=2' '-O3 -flto' -pedantic; do
    # shellcheck disable=SC2086  # flags are words
    ok "compiles beside the mapper${flags:+ with $flags}" compiles_alone $flags
done

plain_cxx() {
    printf '%s\n' '#include <ring_buffer.h>' 'int main() { return attach_ring_buffer("/none") ? 1 : 0; }' >user.cc
    $CXX -Wall -Wextra -Werror -pedantic user.cc -Iinclude build/libmemory_mapper.a -o user && ./user
}
! needs "$CXX" "C++ can use it" || ok "C++ can use it" plain_cxx

# ------------------------------------------------------------------------------------------ the manual page
ok "make install" make -C "$ROOT" install PREFIX=/usr DESTDIR="$WORK/root"
header=$WORK/root/usr/include/ring_buffer.h
page=$WORK/root/usr/share/man/man3/ring_buffer.3

declared() {
    sed -nE 's/^[a-z].*[ *](\w+)\(.*\);$/\1/p' | sort
}

part() {
    sed -n "/^\.SH $1\$/,/^\.SH/p" "$page"
}

synopsis() {
    part SYNOPSIS | sed -nE '/^\.BI? +[a-z"]/{s/^\.BI? +//; s/"//g; p}'
}

names_fit() {
    diff <(declared <"$header") <(part NAME | sed '/^\\-/d; /^\./d' | tr -s ', ' '\n' | sed '/^$/d' | sort)
}

# Declarations that contradict each other do not compile.
synopsis_fits() {
    { echo '#include <ring_buffer.h>'; synopsis; } >"$WORK/synopsis.c"
    diff <(declared <"$header") <(synopsis | declared) && compile -fsyntax-only "$WORK/synopsis.c"
}

fields() {
    sed -nE "/^typedef struct s_ring_buffer \{/,/^\}/{s@/\*.*@@; s/^ +//; s/ +\$//; /;\$/p}" "$1"
}

structure_fits() {
    [ "$(fields "$page" | wc -l)" -eq 6 ] && diff <(fields "$header") <(fields "$page")
}

# Each error that the header speaks of.
errors_fit() {
    diff <(grep -oE '\bE[A-Z]{3,}\b' "$header" | sort -u | grep -vx 'EOF\|ENDED') \
        <(grep -oE '\bE[A-Z]{3,}\b' "$page" | sort -u | grep -vx 'ERRORS\|EXAMPLES\|EACCES\|EMFILE')
}

links_fit() {
    diff <(declared <"$header") <(find -L "${page%/*}" -samefile "$page" -printf '%f\n' |
        sed 's/\.3$//; /^ring_buffer$/d' | sort)
}

formats() {
    groff -t -man -ww -Tutf8 "$page" 2>&1 >"$WORK/formatted" | tee "$WORK/warnings"
    [ -s "$WORK/formatted" ] && [ ! -s "$WORK/warnings" ]
}

ok "ring_buffer.3 names the header's functions" names_fit
ok "has them in its synopsis, with their types" synopsis_fits
ok "shows t_ring_buffer as it is" structure_fits
ok "has the header's errors" errors_fit
ok "and each function has a page" links_fit
# shellcheck source=../../scripts/common
[ "${CI-}" != true ] || (. "$ROOT/scripts/common" && need groff-base:groff -- "to format the manual page")
! needs groff "it formats without a warning" || ok "it formats without a warning" formats

done_testing
