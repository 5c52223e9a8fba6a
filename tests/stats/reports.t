#!/usr/bin/env bash
# usage: tests/stats/reports.t
# What is printed of a process with 16 threads: malloc_info read by an XML parser, cadastre_stats_print by a JSON
# parser and by awk, and CADASTRE_STATS at exit and on a signal. The sums in each must hold.
# shellcheck disable=SC2317  # functions are called through ok
# shellcheck source-path=SCRIPTDIR source=../api/tap.sh
. "$(dirname "$0")/../api/tap.sh"

compile "$ROOT/tests/stats/programs/report.c" "-L$BUILD" "-Wl,-rpath,$BUILD" -lcadastre -pthread -o "$WORK/report" || {
    echo "Bail out! tests/stats/programs/report.c does not compile"
    exit 1
}

# Of the schema, what its readers look for; the sums over heaps and sizes; that it is one document; and that it says
# what the JSON of the same instant says.
check_xml() {
    "$WORK/report" info >"$WORK/info.xml" 2>"$WORK/info.json" && python3 - "$WORK/info.xml" "$WORK/info.json" <<'END'
import json, sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == "malloc" and root.get("version") == "1", root.attrib
heaps = root.findall("heap")
assert len(heaps) > 1 and len({heap.get("nr") for heap in heaps}) == len(heaps), heaps

def total(element, kind, what="size"):
    found = element.findall(f"total[@type='{kind}']")
    assert len(found) == 1, (kind, found)
    return int(found[0].get(what))

def system(element, tag, kind):
    found = element.findall(f"{tag}[@type='{kind}']")
    assert len(found) == 1, (tag, kind, found)
    return int(found[0].get("size"))

for element in heaps + [root]:
    assert system(element, "system", "current") <= system(element, "system", "max")
    assert system(element, "aspace", "mprotect") < system(element, "aspace", "total") == system(element, "system", "current")

stats = json.load(open(sys.argv[2]))
def agrees(element, memory):
    rest = sum(memory[kind] for kind in ("retired", "free", "tails", "quarantine", "retained", "idle"))
    assert total(element, "rest") == rest, (element.attrib, memory)
    assert total(element, "fast") == memory["caches"] + memory["outgoing"], (element.attrib, memory)
    assert system(element, "system", "current") == memory["total"], (element.attrib, memory)
    assert system(element, "aspace", "mprotect") == memory["total"] - memory["guards"], (element.attrib, memory)
agrees(root, stats["mapped"])
for heap in heaps:
    agrees(heap, stats["per_arena"][int(heap.get("nr"))]["mapped"])
for heap in heaps:
    sizes = heap.find("sizes").findall("size")
    assert sum(int(size.get("count")) for size in sizes) == total(heap, "rest", "count")
    assert sum(int(size.get("total")) for size in sizes) <= total(heap, "rest")
    last = 0
    for size in sizes:
        low, high, bytes_, count = (int(size.get(name)) for name in ("from", "to", "total", "count"))
        assert last < low <= high and bytes_ == count * high, size.attrib
        last = high
assert sum(total(heap, "fast") for heap in heaps) == total(root, "fast") > 0
assert sum(total(heap, "fast", "count") for heap in heaps) == total(root, "fast", "count")
assert sum(total(heap, "rest") for heap in heaps) <= total(root, "rest")
assert total(root, "mmap", "count") > 10 and total(root, "mmap") > 65536 * total(root, "mmap", "count")
END
}

check_json() {
    "$WORK/report" json >"$WORK/stats.json" && python3 - "$WORK/stats.json" <<'END'
import json, sys
lines = open(sys.argv[1]).read().splitlines()
assert len(lines) == 1, lines
stats = json.loads(lines[0])
memories = [stats["mapped"], stats["resident"]] + [arena["mapped"] for arena in stats["per_arena"]]
for memory in memories:
    assert sum(memory.values()) == 2 * memory["total"], memory
assert stats["mapped"]["other"] == 0
assert all(stats["resident"][kind] <= stats["mapped"][kind] for kind in stats["mapped"])
assert 0 < stats["resident"]["live"] < stats["mapped"]["live"], "half of each block was touched"
arenas = stats["per_arena"]
assert len(arenas) == stats["arenas"] and [arena["arena"] for arena in arenas] == list(range(len(arenas)))
for key, of_class in (("cached_blocks", "cached"), ("free_blocks", "free")):
    assert stats[key] == sum(c[of_class] for arena in arenas for c in arena["classes"]), key
live = sum(c["live"] for arena in arenas for c in arena["classes"])
assert stats["live_blocks"] == live + stats["large_blocks"]
for arena in arenas:
    assert arena["refilled"] - arena["flushed"] == sum(c["live"] + c["cached"] for c in arena["classes"]), arena
    assert arena["slabs"] == sum(c["slabs"] for c in arena["classes"])
    assert arena["lock"]["acquisitions"] >= arena["lock"]["contended"]
END
}

# check_text FILE: the lines of "bytes of" sum to "total", in both columns.
check_text() {
    awk '
        /^bytes of/ { inside = 1; next }
        !inside { next }
        /^total/ { exit !(NF == 3 && $2 == mapped && $3 == resident && $2 > $3 && $3 > 0 && lines == 18) }
        { mapped += $(NF - 1); resident += $NF; lines++ }
        END { if (!lines) exit 1 }' "$1" || { cat "$1"; return 1; }
}

prints_text() {
    "$WORK/report" text >"$WORK/stats.txt" && check_text "$WORK/stats.txt"
}

# With an option: the text on standard error, once.
prints_with() {
    env CADASTRE_STATS="$1" "$WORK/report" "$1" >"$WORK/out" 2>"$WORK/err" && check_text "$WORK/err" &&
        [ ! -s "$WORK/out" ] && [ "$(grep -c '^cadastre: statistics of process' "$WORK/err")" = 1 ]
}

# ls closes it, as all of coreutils do, to see whether all was written.
prints_after_close() {
    env LD_PRELOAD="$BUILD/libcadastre.so" CADASTRE_STATS=exit ls "$WORK" >"$WORK/out" 2>"$WORK/err" &&
        check_text "$WORK/err"
}

prints_nothing() {
    "$WORK/report" exit >"$WORK/out" 2>&1 && [ ! -s "$WORK/out" ]
}

# A program's own handler, the signal ignored from the start, or left to kill: each stays.
leaves_handlers() {
    env LD_PRELOAD="$BUILD/libcadastre.so" CADASTRE_STATS=signal \
        bash -c 'trap "echo mine" USR2; kill -USR2 $$; true' >"$WORK/out" 2>&1
    [ "$(cat "$WORK/out")" = mine ] || { cat "$WORK/out"; return 1; }
    (trap '' USR2 && env CADASTRE_STATS=signal "$WORK/report" signal) >"$WORK/out" 2>&1 || return 1
    [ ! -s "$WORK/out" ] || { cat "$WORK/out"; return 1; }
    env LD_PRELOAD="$BUILD/libcadastre.so" CADASTRE_STATS=exit bash -c 'kill -USR2 $$' >"$WORK/out" 2>&1
    [ $? -eq $((128 + $(kill -l USR2))) ]
}

reports_malformed() {
    env CADASTRE_STATS=sometimes "$WORK/report" exit >"$WORK/out" 2>&1 && contains CADASTRE_STATS=sometimes "$WORK/out" &&
        lacks "statistics of" "$WORK/out"
}

if needs python3 "malloc_info is a document of glibc's schema, and its sums hold"; then
    ok "malloc_info is a document of glibc's schema, and its sums hold" check_xml
    ok "the JSON is one line, and its sums hold" check_json
fi
ok "the text's columns sum to their totals" prints_text
ok "CADASTRE_STATS=exit prints at exit" prints_with exit
ok "also where the program has closed standard error" prints_after_close
ok "CADASTRE_STATS=signal prints when it next can" prints_with signal
ok "neither is on by itself" prints_nothing
ok "the signal is left alone where it is in use, or not asked for" leaves_handlers
ok "another word is reported" reports_malformed

done_testing
