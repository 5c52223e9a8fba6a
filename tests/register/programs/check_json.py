"""Reads show_alloc_mem_ex's JSON lines and says what does not add up."""
import json
import sys

KEYS = {
    "zone": {"address", "category", "arena", "bytes"},
    "slab": {"address", "zone", "arena", "class", "blocks", "live", "cached", "free", "live_bytes", "free_bytes",
             "fragmentation"},
    "block": {"address", "size", "capacity", "category", "arena", "zone", "bytes"},
    "large": {"address", "bytes", "state"},
    "total": None,
}
is_quiet = sys.argv[2:] == ["quiet"]
faults = []
counted = dict.fromkeys(KEYS, 0)
zone = slab = None
sums = {}
live = live_bytes = 0


def expect(condition, *what):
    if not condition:
        faults.append(" ".join(map(str, what)))


for number, line in enumerate(open(sys.argv[1]), 1):
    thing = json.loads(line)
    kind = thing.pop("type")
    counted[kind] += 1
    expect(KEYS[kind] is None or set(thing) == KEYS[kind], number, "keys of a", kind, set(thing))
    if kind == "zone":
        zone, slab, sums = thing, None, dict.fromkeys(("blocks", "live", "cached", "free", "live_bytes", "free_bytes"), 0)
        sums["slabs"] = 0
    elif kind == "slab":
        slab = thing | {"seen": 0}
        expect(thing["zone"] == zone["address"] and thing["arena"] == zone["arena"], number, "slab of another zone")
        expect(thing["blocks"] == thing["live"] + thing["cached"] + thing["free"], number, "the counts do not add up")
        expect(thing["blocks"] == 65536 // thing["class"], number, "blocks of", thing["class"])
        expect(thing["free_bytes"] == thing["free"] * thing["class"], number, "free bytes")
        for key in sums:
            sums[key] += 1 if key == "slabs" else thing[key]
    elif kind == "block":
        live += 1
        live_bytes += thing["size"]
        expect(len(thing["bytes"]) == 2 * min(20, thing["size"]), number, "bytes:", thing["bytes"])
        bytes.fromhex(thing["bytes"])
        expect(thing["size"] <= thing["capacity"], number, "more than its capacity")
        if thing["category"] == "LARGE":
            expect(thing["arena"] is None and thing["zone"] == thing["address"], number, "LARGE in an arena")
        else:
            slab["seen"] += 1
            expect(thing["zone"] == zone["address"] and thing["arena"] == zone["arena"], number, "another zone's block")
            expect(thing["capacity"] == slab["class"], number, "capacity is not the slab's class")
            expect(slab["seen"] <= slab["live"], number, "more blocks than are live in the slab")
    elif kind == "large":
        expect(thing["state"] in ("live", "cached", "purged", "being purged", "quarantined", "retired"), number, thing["state"])
    elif thing["zone"] is None:
        expect(thing == {"zone": None, "live": live, "live_bytes": live_bytes}, number, "total", thing, live, live_bytes)
    else:
        expect(thing["zone"] == zone["address"], number, "total of another zone")
        for key, value in sums.items():
            expect(thing[key] == value, number, "total of", key, thing[key], "is not", value)
        expect(thing["slabs"] + thing["dirty"] + thing["purging"] + thing["idle"] == zone["bytes"] // 65536 -
               (1 + (zone["bytes"] // 65536 * 9 + 127) // 128), number, "units")
        if is_quiet:
            expect(slab is None or slab["seen"] == slab["live"], number, "not all live blocks of the last slab are listed")

expect(all(counted.values()), "not all kinds:", counted)
expect(counted["total"] == counted["zone"] + 1, "totals:", counted)
for fault in faults[:20]:
    print("line", fault)
sys.exit(bool(faults))
