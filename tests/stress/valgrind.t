#!/usr/bin/env bash
# usage: tests/stress/valgrind.t
# Programs on the library in valgrind's memcheck, in both ways that there are: with memcheck's malloc in the place of
# ours, which finds the program's faults; and with ours as a part of the program, which shows that it has none itself.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

if ! needs valgrind "memcheck's malloc, and ours"; then
    done_testing
fi

cat >"$WORK/faulty.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void show_alloc_mem(void) __attribute__((weak));

int main(int argc, char **argv) {
    char *volatile block = malloc(100);
    memset(block, 1, 100);
    if (show_alloc_mem)
        show_alloc_mem();
    if (argc > 1 && strcmp(argv[1], "overrun") == 0)
        block[100] = 1;
    if (argc > 1 && strcmp(argv[1], "leak") == 0)
        return 0;
    free(block);
    if (argc > 1 && strcmp(argv[1], "twice") == 0)
        free(block);
    return 0;
}
C
compile -w "$WORK/faulty.c" -o "$WORK/faulty"

# memcheck OPTIONS... MISTAKE: runs the program on the library; its output in $WORK/said.
memcheck() {
    LD_PRELOAD=$BUILD/libcadastre.so valgrind -q --leak-check=full --error-exitcode=9 "${@:1:$#-1}" \
        "$WORK/faulty" "${@: -1}" >"$WORK/said" 2>&1
}

finds() {
    local text=$1
    shift
    ! memcheck "$@" && contains "$text" "$WORK/said"
}

ok "preloaded, memcheck's malloc is in the place of ours: nothing wrong with nothing" memcheck nothing
ok "it is not ours that was called" lacks ' : 100 bytes' "$WORK/said"
ok "writes past a block are found" finds 'Invalid write of size 1' overrun
ok "second frees" finds 'Invalid free()' twice
ok "leaks" finds '100 bytes in 1 blocks are definitely lost' leak

as_program=--soname-synonyms=somalloc=nouserintercepts
ok "with $as_program the library is a part of the program, without a fault" memcheck $as_program nothing
ok "it is ours that was called" contains ' : 100 bytes' "$WORK/said"
reports_itself() {
    memcheck "$@" && contains 'double free' "$WORK/said"
}
ok "what it detects it reports itself, without one either" reports_itself $as_program twice

done_testing
