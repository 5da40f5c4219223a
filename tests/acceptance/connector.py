"""Open, use and close many connections; print what happened as one JSON object.

    python connector.py ADDRESS PORT COUNT RATE [--source-port N] [--request] [--lines]

RATE is connects per second, 0 = as fast as possible.  The client closes first, so that it is the side
that keeps TIME_WAIT.  `--request` sends one HTTP request on each and counts the answers' `pod`.
`--lines` prints `MONOTONIC_BEFORE_CONNECT OUTCOME` for each instead.
Standard library only.
"""

from __future__ import annotations

import argparse
import collections
import errno
import json
import socket
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: acceptance\r\n\r\n"


def read_response(sock: socket.socket) -> tuple[str, str]:
    """-> (status code, pod): reads until the body that Content-Length announced is whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(65536)
        if not chunk:
            raise ConnectionError("EOF in the head")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields.get(b"content-length", b"0")) - len(body)
    while left > 0:
        chunk = sock.recv(left)
        if not chunk:
            raise ConnectionError("EOF in the body")
        body += chunk
        left -= len(chunk)
    status = head.split(b" ", 2)[1].decode()
    return status, json.loads(body)["pod"] if body.startswith(b"{") else ""


def once(options: argparse.Namespace) -> str:
    """The outcome of one connection: "ok", "STATUS/POD" with --request, or the error's name."""
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(10)
        try:
            if options.source_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("", options.source_port))
            sock.connect((options.address, options.port))
            if not options.request:
                return "ok"
            sock.sendall(REQUEST)
            return "/".join(read_response(sock))
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, f"{type(error).__name__}({error})".replace(" ", "_"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("--source-port", type=int, default=0)
    parser.add_argument("--request", action="store_true")
    parser.add_argument("--lines", action="store_true")
    options = parser.parse_args()
    results: collections.Counter[str] = collections.Counter()
    lines = []  # printed at the end: a pipe that nobody reads meanwhile would stop the load
    start = time.monotonic()
    for number in range(options.count):
        if options.rate:
            time.sleep(max(0.0, start + number / options.rate - time.monotonic()))
        before = time.monotonic()
        outcome = once(options)
        results[outcome] += 1
        if options.lines:
            lines.append(f"{before:.6f} {outcome}")
    if options.lines:
        print("\n".join(lines))
    else:
        print(json.dumps({"seconds": round(time.monotonic() - start, 3), **results}))


if __name__ == "__main__":
    main()
