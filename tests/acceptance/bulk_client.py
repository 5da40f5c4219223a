"""One huge body up or down, by http.client.  Standard library only.

    python bulk_client.py up|down|stop ADDRESS PORT SIZE [--chunked]

Prints one JSON line: {"bytes", "sha256", "seconds"} of the body as its receiver saw it: of `up` the server's
answer, of `down` what arrived here.  `stop` reads 1 MiB of a body of SIZE, prints, and then reads no more until
its stdin ends.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import sys
import time
from collections.abc import Iterator

BLOCK = bytes(range(256)) * 4096  # 1 MiB; the pattern of bulk_server.py


def blocks(size: int) -> Iterator[bytes]:
    while size > 0:
        yield BLOCK[: min(size, len(BLOCK))]
        size -= len(BLOCK)


def up(connection: http.client.HTTPConnection, size: int, chunked: bool) -> dict[str, object]:
    how = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(size)}
    connection.request("POST", "/", body=blocks(size), headers=how, encode_chunked=chunked)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"POST: {answer.status} {body!r}")
    said: dict[str, object] = json.loads(body)
    return said


def down(connection: http.client.HTTPConnection, size: int, chunked: bool) -> dict[str, object]:
    answer = _get(connection, size, chunked)
    digest, total = hashlib.sha256(), 0
    buffer = memoryview(bytearray(1 << 20))
    while count := answer.readinto(buffer):
        digest.update(buffer[:count])
        total += count
    return {"bytes": total, "sha256": digest.hexdigest()}


def stop(connection: http.client.HTTPConnection, size: int, chunked: bool) -> dict[str, object]:
    return {"bytes": len(_get(connection, size, chunked).read(1 << 20))}


def _get(connection: http.client.HTTPConnection, size: int, chunked: bool) -> http.client.HTTPResponse:
    connection.request("GET", f"/{size}/chunked" if chunked else f"/{size}")
    answer = connection.getresponse()
    if answer.status != 200 or (answer.getheader("transfer-encoding") == "chunked") != chunked:
        raise SystemExit(f"GET: {answer.status} {answer.getheaders()}")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("direction", choices=("up", "down", "stop"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("--chunked", action="store_true")
    options = parser.parse_args()
    connection = http.client.HTTPConnection(options.address, options.port, timeout=120)
    start = time.monotonic()
    result = {"up": up, "down": down, "stop": stop}[options.direction](connection, options.size, options.chunked)
    print(json.dumps({**result, "seconds": time.monotonic() - start}), flush=True)
    if options.direction == "stop":
        sys.stdin.read()


if __name__ == "__main__":
    main()
