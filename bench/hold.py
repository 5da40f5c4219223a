"""Many idle connections from inside a pod: `python -m bench.hold URL COUNT`.

Each connection carries one request and then stays open.  One line of JSON, {"held", "failed"}, says
when all are there; they are held until this process is told to end.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import sys
from urllib.parse import urlsplit

SPARE_DESCRIPTORS = 100


def _open(address: tuple[str, int], request: bytes) -> socket.socket:
    """A connection after its first answer; OSError when there is none."""
    connection = socket.create_connection(address, timeout=5)
    connection.sendall(request)
    answer = connection.recv(4096)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"unexpected answer {answer[:60]!r}")
    return connection


def hold(url: str, count: int) -> list[socket.socket]:
    """Opened one after the other: that needs one upstream connection, so what is measured is the client side."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + SPARE_DESCRIPTORS, count + SPARE_DESCRIPTORS))
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    request = f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    connections = []
    for _ in range(count):
        try:
            connections.append(_open(address, request))
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
    return connections


if __name__ == "__main__":
    wanted = int(sys.argv[2])
    held = hold(sys.argv[1], wanted)
    print(json.dumps({"held": len(held), "failed": wanted - len(held)}), flush=True)
    signal.pause()
