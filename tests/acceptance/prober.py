"""Measure the latency of requests sent at a steady pace on one keep-alive connection; print seconds, one a line.

    python prober.py ADDRESS PORT COUNT INTERVAL

Standard library only.
"""

from __future__ import annotations

import gc
import socket
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: prober\r\n\r\n"


def exchange(sock: socket.socket) -> None:
    sock.sendall(REQUEST)
    data = sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"not served: {data!r}")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    left = length - len(body)
    while left:
        left -= len(sock.recv(left)) or sys.exit("the body ended early")


def main() -> None:
    count, interval = int(sys.argv[3]), float(sys.argv[4])
    took = []
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchange(sock)
        gc.disable()  # a pause here is not one of the mesh
        due = time.perf_counter()
        for _ in range(count):
            due += interval
            time.sleep(max(0.0, due - time.perf_counter()))
            start = time.perf_counter()
            exchange(sock)
            took.append(time.perf_counter() - start)
    print("\n".join(f"{seconds:.7f}" for seconds in took))


if __name__ == "__main__":
    main()
