"""Connections that want nothing, and connections whose request heads come byte by byte.

    python crowd_client.py ADDRESS PORT IDLE SLOW

An idle one has had one request answered.  A slow one sends a byte of its head each second and comes back when it is
refused.  Prints `ready` when all are open, and at the end of stdin `{"idle_ended": N}`.  Standard library only.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

HEAD = b"GET /slow HTTP/1.1\r\nHost: crowd\r\nX-Slow: " + b"x" * 4096
REQUEST = b"GET / HTTP/1.1\r\nHost: crowd\r\n\r\n"


class Crowd:
    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._slow: dict[socket.socket, int] = {}  # bytes of the head that were sent
        self.idle_ended = 0

    def add_idle(self) -> None:
        sock = socket.create_connection(self._address, 10)
        sock.sendall(REQUEST)
        if not sock.recv(65536).startswith(b"HTTP/1.1 200"):
            raise SystemExit("an idle connection's first request was not answered 200")
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ)

    def add_slow(self) -> None:
        sock = socket.create_connection(self._address, 10)
        sock.setblocking(False)
        self._slow[sock] = 0
        self._selector.register(sock, selectors.EVENT_READ)

    def drip(self) -> None:
        for sock, sent in list(self._slow.items()):
            try:
                self._slow[sock] = sent + sock.send(HEAD[sent : sent + 1])
            except OSError:
                continue  # refused: it shows as readable too

    def listen(self, seconds: float) -> bool:
        """False when stdin has ended."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is sys.stdin:
                return False
            self._hear(key.fileobj)  # type: ignore[arg-type]  # all others are sockets
        return True

    def _hear(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(4096)
        except ConnectionResetError:
            data = b""
        if sock not in self._slow:
            if not data:
                self.idle_ended += 1
                self._selector.unregister(sock)
            return
        if not data:
            self._selector.unregister(sock)
            del self._slow[sock]
            sock.close()
            self.add_slow()

    def run(self) -> None:
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        print("ready", flush=True)
        next_drip = time.monotonic()
        while self.listen(max(0.0, next_drip - time.monotonic())):
            if time.monotonic() >= next_drip:
                next_drip += 1.0
                self.drip()
        print(json.dumps({"idle_ended": self.idle_ended}), flush=True)


def main() -> None:
    crowd = Crowd((sys.argv[1], int(sys.argv[2])))
    for _ in range(int(sys.argv[3])):
        crowd.add_idle()
    for _ in range(int(sys.argv[4])):
        crowd.add_slow()
    crowd.run()


if __name__ == "__main__":
    main()
