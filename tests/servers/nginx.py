"""nginx.t's own client, for what wrk does not do.

usage: nginx.py port                          prints a port that is free now
       nginx.py get HOST:PORT PATH            fetches one path
       nginx.py exchange HOST:PORT DIRECTORY  fetches its files as they are, compressed, through the proxy and
                                              in ranges; uploads, fetches and deletes others; prints checksums
"""
import gzip
import hashlib
import http.client
import pathlib
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

CLIENTS = 4
TURNS = 40


def ask(connection, method, path, body=None, wanted=200, **headers):
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    data = response.read()
    if response.status != wanted:
        sys.exit("%s %s: %d %s, wanted %d" % (method, path, response.status, response.reason, wanted))
    return gzip.decompress(data) if response.getheader("Content-Encoding") == "gzip" else data


def client(host, files, number):
    connection = http.client.HTTPConnection(host, timeout=60)
    digest = hashlib.sha256()
    for turn in range(TURNS):
        for name, text in files.items():
            for path in ("/", "/gzip/", "/proxy/"):
                if ask(connection, "GET", path + name, Accept_Encoding="gzip") != text:
                    sys.exit("%s%s is not what was stored" % (path, name))
            start = (number * TURNS + turn) * 7 % len(text)
            part = ask(connection, "GET", "/" + name, wanted=206, Range="bytes=%d-%d" % (start, start + 4095))
            if part != text[start : start + 4096]:
                sys.exit("%s: bytes from %d are not what was stored" % (name, start))
            digest.update(part)
        # Above 16 KiB the body waits in a temporary file.
        body = b"%d of %d\n" % (turn, number) * (1 + turn * turn * 3)
        path = "upload%d" % number
        ask(connection, "PUT", "/upload/" + path, body, 201)
        if ask(connection, "GET", "/proxy/" + path) != body:
            sys.exit("%s is not what was uploaded" % path)
        ask(connection, "DELETE", "/upload/" + path, wanted=204)
        digest.update(body)
    return number, digest.hexdigest()


def main():
    if sys.argv[1:] == ["port"]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            print(listener.getsockname()[1])
        return
    verb, host, operand = sys.argv[1:]
    if verb == "get":
        ask(http.client.HTTPConnection(host, timeout=10), "GET", "/" + operand)
        return
    files = {path.name: path.read_bytes() for path in sorted(pathlib.Path(operand).iterdir())}
    with ThreadPoolExecutor(CLIENTS) as pool:
        for result in pool.map(lambda number: client(host, files, number), range(CLIENTS)):
            print("client %d: %s" % result)


main()
