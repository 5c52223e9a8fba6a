#!/usr/bin/env bash
# python3: a part of its own test suite, and a program whose threads compress, hash and parse side by side,
# both with every object of Python's in a malloc block of its own (PYTHONMALLOC=malloc).
set -u
source "$(dirname "$0")/lib.sh"
begin python python3:/usr/bin/python3
release=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
need "libpython$release-testsuite:/usr/lib/python$release/test/test_threading.py" -- "for python's own tests"
live 448 448 # The suite takes that much on glibc.
export PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0

suite=(test_threading test_thread test_threading_local test_fork1 test_gc test_weakref test_list test_dict
    test_set test_json test_re test_pickle test_bytes test_unicode test_array test_memoryview test_collections
    test_zlib test_decimal test_ctypes test_mmap)

round() {
    run threads 'python3*' "$PYTHON" "$HERE/python.py" $((LIVE / 4))
    run suite 'python3*' "$PYTHON" -m test --tempdir "$WORK" --junit-xml results.xml "${suite[@]}"
    "$PYTHON" "$HERE/python.py" --outcomes "$WORK/results.xml" >"$WORK/outcomes"
}

both round
diag "$(wc -l <"$TMP/glibc/outcomes") tests of python's own suite"
same "what the threads computed" log/threads.out
same "the outcome of every test" outcomes
finish
