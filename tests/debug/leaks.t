#!/usr/bin/env bash
# usage: tests/debug/leaks.t
# The leak report of programs: none for one that frees all, whatever the C library, the C++ library and the loader keep;
# after the last destructor; to the file that CADASTRE_LOG names; and of a parent and its child each.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

library=$BUILD/libcadastre.so
CXX=${CXX:-g++}

# run OPTION... -- COMMAND...: output and errors go to files in $WORK.
run() {
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    timeout 60 env "${options[@]}" LD_PRELOAD="$library" "$@" >"$WORK/out" 2>"$WORK/errors" </dev/null
    local status=$?
    cat "$WORK/errors"
    return "$status"
}

# reports PATTERN FILE: all of it, as a regular expression.
reports() {
    [[ $(cat "$2") =~ ^$1$ ]] || { echo "expected: $1"; cat "$2"; return 1; }
}

# finds PATTERN OPTION... -- COMMAND...
finds() {
    local pattern=$1
    shift
    run "$@" && reports "$pattern" "$WORK/errors"
}

kept='(; besides, the C library, the C\+\+ library and the loader keep [0-9]+ bytes in [0-9]+ blocks?)?'
none="cadastre: leaks: 0 bytes in 0 blocks$kept"
hint='(; CADASTRE_STACKS=16 says who took them)?'
calls=$'(cadastre:     .*\n)*'
four=$'cadastre: leak: 4000 bytes in 4 blocks, the first at 0x[0-9a-f]+(, taken at)?\n'

# --------------------------------------------------------------------------------------------------- C++
if needs "$CXX" C++; then
    program=$WORK/frees_all
    ok "a C++ program builds" "$CXX" -std=c++17 -O1 "$ROOT/tests/debug/programs/frees_all.cc" -pthread -ldl -o "$program"
    for stacks in 0 1 4 16 64; do
        ok "it leaks nothing, $stacks frames" finds "$none" CADASTRE_LEAKS=1 CADASTRE_STACKS=$stacks -- "$program"
    done
    ok "nor with other modes" finds "$none" CADASTRE_LEAKS=1 CADASTRE_CANARIES=1 CADASTRE_SCRIBBLE=1 -- "$program"
    for stacks in 0 1 16; do
        ok "it leaks four blocks, which are told from what the libraries keep, $stacks frames" \
            finds "$four${calls}cadastre: leaks: 4000 bytes in 4 blocks$kept$hint" \
            CADASTRE_LEAKS=1 CADASTRE_STACKS=$stacks -- "$program" 1000
    done
fi

# ---------------------------------------------------------------------------- libraries that are opened at run time
# So many that the loader's list of those with thread-local variables grows, and their scope does.
if ok "a library builds" compile "$ROOT/tests/debug/programs/opened.c" -shared -fPIC -o "$WORK/0.so" &&
    ok "a program that opens it" compile "$ROOT/tests/debug/programs/opens.c" -ldl -pthread -o "$WORK/opens"; then
    for ((copy = 1; copy < 150; copy++)); do
        cp "$WORK/0.so" "$WORK/$copy.so"
    done
    for mode in local global; do
        ok "it leaks nothing: $mode" finds "$none" CADASTRE_LEAKS=1 -- "$WORK/opens" $mode "$WORK" 150
        ok "it leaks four blocks: $mode" finds "${four}cadastre: leaks: 4000 bytes in 4 blocks$kept$hint" \
            CADASTRE_LEAKS=1 -- "$WORK/opens" $mode "$WORK" 150 1000
    done
fi

# --------------------------------------------------------------------------------------------- C, and 16 threads
ok "a C program builds" compile "$ROOT/tests/debug/programs/keeps.c" -pthread -ldl -o "$WORK/keeps"
stream="(cadastre: leak: [0-9]+ bytes in 1 block, at 0x[0-9a-f]+(, taken at)?"$'\n'"$calls){2}"
for stacks in 0 16; do
    ok "it leaks nothing, $stacks frames" finds "$none" CADASTRE_LEAKS=1 CADASTRE_STACKS=$stacks -- "$WORK/keeps"
    ok "or else four blocks, $stacks frames" finds "$four${calls}cadastre: leaks: 4000 bytes in 4 blocks$kept$hint" \
        CADASTRE_LEAKS=1 CADASTRE_STACKS=$stacks -- "$WORK/keeps" 1000
    ok "or else a stream and its buffer, $stacks frames" \
        finds "${stream}cadastre: leaks: [0-9]+ bytes in 2 blocks$kept$hint" \
        CADASTRE_LEAKS=1 CADASTRE_STACKS=$stacks -- "$WORK/keeps" 0
done

# ------------------------------------------------------------------------- the end; and linked with the archive
three=$'destructor\ncadastre: leak: 3000 bytes in 3 blocks, the first at 0x[0-9a-f]+(, taken at)?\n'
# ends PRELOADED NAME FLAG...: a program that is built with these flags is told of its leaks after all destructors.
ends() {
    local library=$1 name=$2
    shift 2
    ok "$name: a program with destructors builds" compile "$ROOT/tests/debug/programs/ends.c" "$@" -pthread \
        -o "$WORK/ends"
    ok "$name: its leaks are listed after the last of them" \
        finds "${three}cadastre: leaks: 3000 bytes in 3 blocks$kept$hint" CADASTRE_LEAKS=1 -- "$WORK/ends"
    ok "$name: with the stack" finds "$three${calls}cadastre: leaks: 3000 bytes in 3 blocks$kept" \
        CADASTRE_LEAKS=1 CADASTRE_STACKS=16 -- "$WORK/ends"
    [ "$name" = static ] || ok "$name: of 3 calls at least" [ "$(grep -c '^cadastre:     ' "$WORK/errors")" -ge 3 ]
}

ends "$library" preloaded
for mode in pie static static-pie; do
    ends '' "$mode" "-$mode" "$BUILD/libcadastre.a"
done
ends '' "static, with frame pointers" -static -fno-omit-frame-pointer "$BUILD/libcadastre.a"
ends '' "static, with tables" -static -Wl,--eh-frame-hdr "$BUILD/libcadastre.a"

# What the C library takes for a program, the program has to free: also where the stack ends in the library.
cat >"$WORK/regex.c" <<'C'
#include <regex.h>
#include <string.h>
int main(void) {
    regex_t expression;
    return regcomp(&expression, "((a|b)*(c[d-f]+))+((g|h)(i|j))*", REG_EXTENDED) || !strdup("kept");
}
C
ok "a C program builds" compile "$WORK/regex.c" -o "$WORK/regex"
for stacks in 1 4 16; do
    run CADASTRE_LEAKS=1 CADASTRE_STACKS=64 -- "$WORK/regex" >/dev/null
    sed -n 's/^cadastre: leaks: \([0-9]* bytes in [0-9]* blocks\).*/\1/p' "$WORK/errors" >"$WORK/whole"
    run CADASTRE_LEAKS=1 CADASTRE_STACKS=$stacks -- "$WORK/regex" >/dev/null
    ok "what regcomp took counts as the program's, $stacks frames" \
        contains "cadastre: leaks: $(cat "$WORK/whole")" "$WORK/errors"
done

# --------------------------------------------------------------------------------------------------- the log
cat >"$WORK/forks.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    char *volatile block = malloc(7);
    pid_t child = fork();
    block = child == 0 ? malloc(70) : block;
    if (child != 0)
        waitpid(child, NULL, 0);
    if (child != 0)
        dprintf(1, "%d %d\n", (int)getpid(), (int)child);
    return block == NULL;
}
C
ok "a program that forks builds" compile "$WORK/forks.c" -o "$WORK/forks"
ok "it runs with a log for each process" run CADASTRE_LEAKS=1 "CADASTRE_LOG=$WORK/log.%p.txt" -- "$WORK/forks"
read -r parent child <"$WORK/out"
leak='cadastre: leak: 7 bytes in 1 block, at 0x[0-9a-f]+'
parents="$leak"$'\n'"cadastre: leaks: 7 bytes in 1 block$hint"
childs=$'cadastre: leak: 70 bytes in 1 block, at 0x[0-9a-f]+\n'"$leak"$'\n'"cadastre: leaks: 77 bytes in 2 blocks$hint"
ok "the parent's is its own" reports "$parents" "$WORK/log.$parent.txt"
ok "the child's as well" reports "$childs" "$WORK/log.$child.txt"
ok "nothing is on standard error" reports '' "$WORK/errors"
ok "one file for both" run CADASTRE_LEAKS=1 "CADASTRE_LOG=$WORK/log" -- "$WORK/forks"
ok "has the child's report, then the parent's" reports "$childs"$'\n'"$parents" "$WORK/log"
for path in "$WORK/no/such/directory/log" "$WORK" /proc/self/log; do
    ok "what cannot be written to ($path) falls back to standard error" \
        finds "$childs"$'\n'"$parents" CADASTRE_LEAKS=1 CADASTRE_LOG="$path" -- "$WORK/forks"
done

# ------------------------------------------------------------------------------------------ reports that are fatal
cat >"$WORK/twice.c" <<'C'
#include <stdlib.h>
static void *volatile block;
void a_function_with_a_name_that_is_long_enough_to_fill_a_buffer_when_it_calls_itself_again_and_again(int depth) {
    if (depth > 0)
        a_function_with_a_name_that_is_long_enough_to_fill_a_buffer_when_it_calls_itself_again_and_again(depth - 1);
    else
        free(block);
    __asm__ volatile("" : : : "memory");
}
int main(void) {
    void *volatile neighbour = malloc(42);
    block = malloc(42);
    for (int i = 0; i < 2; i++)
        a_function_with_a_name_that_is_long_enough_to_fill_a_buffer_when_it_calls_itself_again_and_again(70);
    free(neighbour);
    return 0;
}
C
ok "a program that frees twice builds" compile "$WORK/twice.c" -rdynamic -o "$WORK/twice"
all=(CADASTRE_SCRIBBLE=1 CADASTRE_CANARIES=1 CADASTRE_QUARANTINE=1M CADASTRE_STACKS=64 CADASTRE_GUARD=edges
    CADASTRE_HISTORY=1000 CADASTRE_CHECK_EACH=1 CADASTRE_LEAKS=1 CADASTRE_RELEASE_AT_EXIT=1)

dies() {
    run "$@" >/dev/null
    local status=$?
    [ "$status" -eq 134 ] || { echo "exit status $status"; cat "$WORK/errors"; return 1; }
}

# Every line is whole, and ours.
has_whole_lines() {
    ! grep -v '^cadastre: ' "$WORK/errors" && [ -z "$(tail -c 1 "$WORK/errors")" ]
}

ok "with CADASTRE_ABORT and all modes it dies" dies CADASTRE_ABORT=1 "${all[@]}" -- "$WORK/twice"
ok "of a double free" contains "): double free: block of 42 bytes, arena " "$WORK/errors"
ok "after it was told who freed it first" contains "cadastre:   given back by thread " "$WORK/errors"
ok "and who does now" contains "cadastre:   called by thread " "$WORK/errors"
ok "with the stack" contains "_when_it_calls_itself_again_and_again+" "$WORK/errors"
ok "in whole lines" has_whole_lines
ok "without a leak report" lacks "cadastre: leaks:" "$WORK/errors"
ok "without CADASTRE_ABORT it goes on" run "${all[@]}" -- "$WORK/twice"
ok "and the leak report follows" reports "cadastre: leaks: 0 bytes in 0 blocks$kept" <(tail -n 1 "$WORK/errors")
ok "all in whole lines" has_whole_lines

done_testing
