"""python.t's program.

usage: python.py MIB              threads that compress, hash and parse; prints checksums
       python.py --outcomes FILE  the tests in a JUnit report and their outcomes, sorted, without the times
"""
import hashlib
import json
import queue
import sys
import threading
import xml.etree.ElementTree
import zlib

THREADS = 4
ROUNDS = 12


def outcomes(path):
    for case in sorted(
        (case.get("name") + " " + (" ".join(child.tag for child in case) or "passed"))
        for case in xml.etree.ElementTree.parse(path).iter("testcase")
    ):
        print(case)


def document(seed, items):
    return {
        "seed": seed,
        "items": [
            {"id": i, "name": "n" * (i * seed % 97), "tags": [str(i * k) for k in range(i % 7)]}
            for i in range(items)
        ],
    }


def produce(seed, items, out):
    """Compressing and hashing let go of the interpreter's lock, so that their mallocs run at once."""
    for turn in range(ROUNDS):
        text = json.dumps(document(seed * 31 + turn, items)).encode()
        out.put((seed, turn, hashlib.sha256(text).hexdigest(), zlib.compress(text, 1)))
    out.put(None)


def consume(packed, results):
    """Takes what another thread has made, and frees it."""
    while (task := packed.get()) is not None:
        seed, turn, digest, data = task
        text = zlib.decompress(data)
        assert hashlib.sha256(text).hexdigest() == digest
        tree = json.loads(text)
        assert tree == document(seed * 31 + turn, len(tree["items"]))
        results.append((seed, turn, digest, sum(len(item["tags"]) for item in tree["items"])))


def main():
    items = int(sys.argv[1]) * 1024 * 1024 // THREADS // 8000
    results = []
    for batch in range(2):
        queues = [queue.Queue(2) for _ in range(THREADS)]
        threads = []
        for i, packed in enumerate(queues):
            threads.append(threading.Thread(target=produce, args=(batch * THREADS + i, items, packed)))
            threads.append(threading.Thread(target=consume, args=(packed, results)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if len(results) != 2 * THREADS * ROUNDS:
        sys.exit("a thread died")
    for result in sorted(results):
        print(*result)


if sys.argv[1] == "--outcomes":
    outcomes(sys.argv[2])
else:
    main()
