"""The client that redis.t and memcached.t check their values with.

usage: keyvalue.py redis|memcached SOCKET load|verify SEED MIB

Four processes set, append to, delete and get keys of their own, values of 16 bytes to 256 KiB, about MIB MiB
of them at a time, and compare every reply with what a model says. What is done follows from SEED and MIB
alone, so "verify" runs the model without the server and then compares every key. Both print checksums of the
final state.
"""
import hashlib
import multiprocessing
import random
import socket
import sys

CLIENTS = 4
ROUNDS = 240
BATCH = 64


class Mismatch(Exception):
    pass


class Redis:
    """Commands and replies of RESP; a missing value is None."""

    def encode(self, *words):
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)

    def set(self, key, value):
        return self.encode(b"SET", key, value), b"+OK"

    def append(self, key, old, tail):
        return self.encode(b"APPEND", key, tail), b":%d" % (len(old or b"") + len(tail))

    def delete(self, key, old):
        return self.encode(b"DEL", key), b":%d" % (old is not None)

    def get(self, key, old):
        return self.encode(b"GET", key), old

    def read(self, stream):
        line = stream.readline()[:-2]
        if line[:1] != b"$":
            return line
        return None if line == b"$-1" else stream.read(int(line[1:]) + 2)[:-2]

    def appended(self, old, tail):
        return (old or b"") + tail


class Memcached:
    """The text protocol; a missing value is None, and appending to it does nothing."""

    def store(self, command, key, value):
        return b"%b %b 0 0 %d\r\n%b\r\n" % (command, key, len(value), value)

    def set(self, key, value):
        return self.store(b"set", key, value), b"STORED"

    def append(self, key, old, tail):
        return self.store(b"append", key, tail), b"NOT_STORED" if old is None else b"STORED"

    def delete(self, key, old):
        return b"delete %b\r\n" % key, b"NOT_FOUND" if old is None else b"DELETED"

    def get(self, key, old):
        return b"get %b\r\n" % key, old

    def read(self, stream):
        line = stream.readline()[:-2]
        if line == b"END":
            return None
        if not line.startswith(b"VALUE "):
            return line
        value = stream.read(int(line.split()[3]) + 2)[:-2]
        stream.readline()
        return value

    def appended(self, old, tail):
        return None if old is None else old + tail


class Client:
    def __init__(self, protocol, path):
        self.protocol = protocol
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")

    def ask(self, questions):
        """Sends a batch of (command, expected reply) and compares the replies.

        A server that cannot send stops reading. So replies are taken before those outstanding fill a quarter
        of the socket's buffer (208 KiB; a reply takes near 1 KiB at least), when the kernel calls it full."""
        sent, outstanding = [], 0
        for command, wanted in questions:
            self.socket.sendall(command)
            sent.append((command, wanted))
            outstanding += 1024 + len(wanted or b"")
            if outstanding > 1 << 15:
                self.compare(sent)
                sent, outstanding = [], 0
        self.compare(sent)

    def compare(self, questions):
        for command, wanted in questions:
            got = self.protocol.read(self.stream)
            if got != wanted:
                raise Mismatch("%.60r: got %.60r, wanted %.60r" % (command, got, wanted))


def value_of(rng):
    """Small values are the most, large ones the most of the bytes; 2 KB on average."""
    size = 1 << rng.choices(range(4, 18), [0.7**bits for bits in range(4, 18)])[0]
    size += rng.randrange(size)
    return (b"%016x" % rng.getrandbits(64) * (size // 16 + 1))[:size]


def batches(protocol, rng, prefix, keys, model):
    """Random work on the model; yields it as batches of (command, expected reply)."""
    batch = []
    for _ in range(ROUNDS * BATCH):
        key = b"%b:%d" % (prefix, rng.randrange(keys))
        old = model.get(key)
        kind = rng.random()
        if kind < 0.45:
            model[key] = value_of(rng)
            batch.append(protocol.set(key, model[key]))
        elif kind < 0.6 and len(old or b"") < 1 << 18:
            tail = value_of(rng)[:4096]
            batch.append(protocol.append(key, old, tail))
            model[key] = protocol.appended(old, tail)
        elif kind < 0.7:
            batch.append(protocol.delete(key, old))
            model[key] = None
        else:
            batch.append(protocol.get(key, old))
        if len(batch) == BATCH:
            yield batch
            batch = []


def client(task):
    protocol, path, verb, seed, number, keys = task
    rng = random.Random(seed * 1000 + number)
    model = {}
    server = Client(protocol, path)
    for batch in batches(protocol, rng, b"value:%d:%d" % (seed, number), keys, model):
        if verb == "load":
            server.ask(batch)
    digest = hashlib.sha256()
    for key, value in sorted(model.items()):
        server.ask([protocol.get(key, value)])
        digest.update(b"%b=%b\n" % (key, b"missing" if value is None else value))
    return number, len(model), digest.hexdigest()


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__.strip())
    protocol = {"redis": Redis, "memcached": Memcached}[sys.argv[1]]()
    path, verb, seed, mib = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    keys = max(16, (mib << 20) // CLIENTS // 8192)
    tasks = [(protocol, path, verb, seed, number, keys) for number in range(CLIENTS)]
    with multiprocessing.Pool(CLIENTS) as pool:
        try:
            for result in pool.map(client, tasks, 1):
                print("client %d: %d keys, %s" % result)
        except (Mismatch, OSError) as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
