"""python.sh's program: prints a checksum of all that it computed.

usage: python.py MIB
"""
import hashlib
import json
import random
import sys

BYTES_PER_RECORD = 1600  # of the records, their JSON text and the copy that is parsed from it


class Record:
    def __init__(self, number, draw):
        self.number = number
        self.name = f"record {number} of {draw.random()}"
        self.tags = [str(draw.getrandbits(40)) for _ in range(draw.randrange(8))]
        self.sizes = {tag: len(tag) * number for tag in self.tags}


def main():
    draw = random.Random(1)
    count = int(sys.argv[1]) * 1024 * 1024 // BYTES_PER_RECORD
    checksum = hashlib.sha256()

    records = [Record(number, draw) for number in range(count // 2)]
    for number in range(count):
        records[draw.randrange(len(records))] = Record(number, draw)

    text = json.dumps([vars(record) for record in records])
    checksum.update(text.encode())
    tree = json.loads(text)
    assert len(tree) == len(records)
    words = sorted({tag for node in tree for tag in node["tags"]})
    checksum.update(" ".join(words).encode())
    del tree, words, text

    by_length = {}
    for record in records:
        by_length.setdefault(len(record.name), []).append(record.name.upper().split())
    for length in sorted(by_length):
        for parts in by_length[length]:
            checksum.update("-".join(parts).encode())
    print(checksum.hexdigest())


main()
