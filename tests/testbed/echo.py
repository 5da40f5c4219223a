"""A small HTTP/1.1 server for pods: says in JSON what it received.  Standard library only.

GET /anything            -> 200 {"pod", "namespace", "method", "path", "host", "headers": [[name, value], ...], ...}
GET /status/418          -> that status; with --status 503 every request gets that one
GET /x?delay=0.5         -> waits that many seconds before it answers
GET /bytes/1000000       -> a body of that many bytes (octet-stream)
GET /count               -> {"requests": N}: requests served so far, without those to /count
Header X-Echo-Set-Header: a:b, c:d    -> sets these response headers
"""

from __future__ import annotations

import argparse
import http.server
import itertools
import json
import socket
import time
import urllib.parse


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, name: str, namespace: str, status: int = 200) -> None:
        self.status = status
        self.pod = name
        self.namespace = namespace
        self.numbers = itertools.count(1)
        self.served = 0
        super().__init__(("::", port), Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # both families on one socket
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error of the server's."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment
    server: Server

    def do_GET(self) -> None:
        body_bytes = self._drain_body()
        target = urllib.parse.urlsplit(self.path)
        if target.path == "/count":
            self._answer(200, json.dumps({"requests": self.server.served}).encode())
            return
        self.server.served = next(self.server.numbers)
        query = urllib.parse.parse_qs(target.query)
        if "delay" in query:
            time.sleep(float(query["delay"][0]))
        first, _, rest = target.path.lstrip("/").partition("/")
        if first == "bytes" and rest.isdigit():
            self._answer(200, b"x" * int(rest), "application/octet-stream")
        else:
            status = int(rest) if first == "status" and rest.isdigit() else self.server.status
            self._answer(status, self._describe(body_bytes))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def _describe(self, body_bytes: int) -> bytes:
        said = {
            "pod": self.server.pod,
            "namespace": self.server.namespace,
            "method": self.command,
            "path": self.path,
            "host": self.headers.get("host", ""),
            "proto": self.request_version,
            "headers": list(self.headers.items()),
            "body_bytes": body_bytes,
        }
        return json.dumps(said).encode() + b"\n"

    def _drain_body(self) -> int:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._drain_chunks()
        left = length = int(self.headers.get("content-length", "0"))
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        return length

    def _drain_chunks(self) -> int:
        total = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            total += len(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return total

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        bodiless = status in (204, 304) or status < 200
        if not bodiless:
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
        for pair in filter(None, self.headers.get("x-echo-set-header", "").split(",")):
            name, _, value = pair.partition(":")
            self.send_header(name.strip(), value.strip())
        self.end_headers()
        if self.command != "HEAD" and not bodiless:
            self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Quiet: a testbed makes thousands of requests."""


def main() -> None:
    parser = argparse.ArgumentParser(description="HTTP echo server for pods of the testbed")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--namespace", default="")
    parser.add_argument("--status", type=int, default=200)
    options = parser.parse_args()
    Server(options.port, options.name, options.namespace, options.status).serve_forever()


if __name__ == "__main__":
    main()
