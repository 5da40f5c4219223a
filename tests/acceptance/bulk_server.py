"""A server of endless bodies.  Standard library only.

    python bulk_server.py PORT

POST /            -> {"bytes", "sha256"} of the body
GET /SIZE         -> SIZE bytes of the pattern 0..255 with a length; /SIZE/chunked without one
GET /progress     -> {"written", "unsent"}: body bytes of the latest GET given to the kernel, and those that the
                     peer's kernel has not acknowledged
"""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import json
import socket
import struct
import sys
import termios

BLOCK = bytes(range(256)) * 4096  # 1 MiB
PIECE = 64 * 1024


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rbufsize = 1 << 20
    written = 0
    sender: socket.socket | None = None

    def do_POST(self) -> None:
        self.digest, self.total = hashlib.sha256(), 0
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            self._read_chunks()
        else:
            self._read(int(self.headers["content-length"]))
        self._say({"bytes": self.total, "sha256": self.digest.hexdigest()})

    def _read(self, left: int) -> None:
        buffer = memoryview(bytearray(1 << 20))
        while left:
            count = self.rfile.readinto1(buffer[: min(left, len(buffer))])
            if not count:
                raise ConnectionError("the body ended early")
            self.digest.update(buffer[:count])
            left -= count
            self.total += count

    def _read_chunks(self) -> None:
        while size := int(self.rfile.readline(), 16):
            self._read(size)
            assert self.rfile.readline() == b"\r\n"
        assert self.rfile.readline() == b"\r\n"

    def do_GET(self) -> None:
        if self.path == "/progress":
            self._say({"written": Handler.written, "unsent": _unsent(Handler.sender)})
            return
        _, size, *how = self.path.split("/")
        Handler.written, Handler.sender = 0, self.connection
        self.send_response(200)
        if how == ["chunked"]:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", size)
        self.end_headers()
        self.wfile.flush()
        self._send_body(int(size), chunked=how == ["chunked"])

    def _send_body(self, left: int, *, chunked: bool) -> None:
        piece = BLOCK[:PIECE]
        while left:
            data = piece[: min(left, PIECE)]
            self.connection.sendall(b"%x\r\n" % len(data) + data + b"\r\n" if chunked else data)
            left -= len(data)
            Handler.written += len(data)
        if chunked:
            self.connection.sendall(b"0\r\n\r\n")

    def _say(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Quiet: what matters is in the answers."""


def _unsent(sock: socket.socket | None) -> int:
    """SIOCOUTQ: bytes in the send queue, whether never sent or not yet acknowledged."""
    if sock is None or sock.fileno() < 0:
        return 0
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0])


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle of a body is part of the test."""


if __name__ == "__main__":
    Server(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
