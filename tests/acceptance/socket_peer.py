"""The server behind `socket_table.py`: one process, one thread per connection, standard library only.

    python socket_peer.py PORT UDP_PORT

PORT echoes; PORT+1 reads a u64 and sends that many bytes; PORT+2 sends b"abc" and resets;
PORT+3 sends b"bye" once it has read, and closes.  Listens on all addresses, IPv4 and IPv6.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

BLOCK = bytes(range(256)) * 4096  # 1 MiB: the same bytes on every run, so that digests compare


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def send_stream(sock: socket.socket) -> None:
    (left,) = struct.unpack("!Q", sock.recv(8, socket.MSG_WAITALL))
    while left:
        left -= sock.send(BLOCK[:left] if left < len(BLOCK) else BLOCK)


def reset(sock: socket.socket) -> None:
    sock.recv(2)
    sock.sendall(b"abc")
    time.sleep(0.2)  # the bytes must be on the other side before the reset
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close_first(sock: socket.socket) -> None:
    sock.recv(2)
    sock.sendall(b"bye")


def one(sock: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    with sock:
        try:
            handle(sock)
        except (ConnectionError, struct.error):
            return  # the client went away: nothing to answer


def serve(port: int, handle: Callable[[socket.socket], None]) -> None:
    listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=one, args=(sock, handle), daemon=True).start()


def serve_udp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", port))
        while True:
            data, peer = sock.recvfrom(2048)
            sock.sendto(data, peer)


def main() -> None:
    port, udp_port = int(sys.argv[1]), int(sys.argv[2])
    for offset, handle in enumerate((echo, send_stream, reset, close_first)):
        threading.Thread(target=serve, args=(port + offset, handle), daemon=True).start()
    serve_udp(udp_port)


if __name__ == "__main__":
    main()
