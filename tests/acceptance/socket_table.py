"""What an application sees of its sockets: one row per behaviour, printed as JSON.

Run inside a pod, once with the agent and once without; the two outputs must be equal for a pod
that is not enrolled.  Standard library only, because it runs as a program of its own.

    python socket_table.py SERVER4 SERVER6 PORT UDP_PORT STREAM_BYTES

The server is `socket_peer.py`; PORT echoes, PORT+1 sends a stream, PORT+2 resets, PORT+3 closes first,
PORT+9 has no listener.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import select
import socket
import struct
import sys
from collections.abc import Callable

IPPROTO_MPTCP = 262
MSG_FASTOPEN = 0x20000000
TIMEOUT_S = 5.0


def name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def host_only(address: tuple[object, ...]) -> object:
    """Source ports differ from run to run; addresses must not."""
    return address[0]


def connected(family: int, address: str, port: int) -> list[object]:
    with socket.socket(family) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect((address, port))
        sock.sendall(b"ping")
        return [host_only(sock.getsockname()), list(sock.getpeername()[:2]), sock.recv(4).decode()]


def connect_errno(family: int, address: str, port: int) -> str:
    with socket.socket(family) as sock:
        sock.settimeout(TIMEOUT_S)
        try:
            sock.connect((address, port))
        except OSError as error:
            return name_of(error)
    return "connected"


def non_blocking(address: str, port: int) -> list[object]:
    with socket.socket() as sock:
        sock.setblocking(False)
        first = sock.connect_ex((address, port))
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        events = poller.poll(TIMEOUT_S * 1000)
        return [
            errno.errorcode.get(first, first),
            [mask for _, mask in events],
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
        ]


def fast_open(address: str, port: int) -> str:
    with socket.socket() as sock:
        try:  # blocking: with a Python timeout the socket is non-blocking and the answer is EINPROGRESS
            sock.sendto(b"ping", MSG_FASTOPEN, (address, port))
            return sock.recv(4).decode()
        except OSError as error:
            return name_of(error)


def multipath(address: str, port: int) -> str:
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError as error:
        return name_of(error)
    with sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect((address, port))
        sock.sendall(b"ping")
        return sock.recv(4).decode()


def bound_first(address: str, port: int) -> list[object]:
    with socket.socket() as sock:
        sock.settimeout(TIMEOUT_S)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", 41234))
        sock.connect((address, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return [sock.getsockname()[1], list(sock.getpeername())]


def udp_connected(address: str, port: int) -> list[object]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect((address, port))
        sock.send(b"ping")
        return [sock.recv(4).decode(), list(sock.getpeername())]


def udp_unconnected(address: str, port: int) -> list[object]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.sendto(b"ping", (address, port))
        data, peer = sock.recvfrom(4)
        return [data.decode(), list(peer)]


def reset_order(address: str, port: int) -> list[str]:
    """PORT+2 sends 3 bytes and then resets: what does a reader see, in which order?"""
    seen: list[str] = []
    with socket.create_connection((address, port), TIMEOUT_S) as sock:
        sock.sendall(b"go")
        for _ in range(3):
            try:
                data = sock.recv(16)
            except OSError as error:
                seen.append(name_of(error))
                break
            seen.append(data.decode() or "EOF")
            if not data:
                break
    return seen


def fin_order(address: str, port: int) -> list[str]:
    """PORT+3 closes after a line; a half-closed client must still read it, then EOF."""
    with socket.create_connection((address, port), TIMEOUT_S) as sock:
        sock.sendall(b"go")
        sock.shutdown(socket.SHUT_WR)
        seen = []
        while data := sock.recv(16):
            seen.append(data.decode())
    return ["".join(seen), "EOF"]


def stream(address: str, port: int, size: int) -> str:
    digest = hashlib.sha256()
    left = size
    with socket.create_connection((address, port), TIMEOUT_S) as sock:
        sock.sendall(struct.pack("!Q", size))
        while left:
            data = sock.recv(min(left, 1 << 20))
            if not data:
                return f"EOF {left} bytes early"
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def raw_connect_retval(address: str, port: int) -> int:
    """connect(2) by libc: the return value itself, not Python's reading of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with socket.socket() as sock:
        packed = struct.pack("!HH4s8x", 0, port, socket.inet_aton(address))
        packed = struct.pack("=H", socket.AF_INET) + packed[2:]
        return int(libc.connect(sock.fileno(), packed, len(packed)))


def table(server4: str, server6: str, port: int, udp_port: int, size: int) -> dict[str, Callable[[], object]]:
    mapped = f"::ffff:{server4}"
    return {
        "connect IPv4": lambda: connected(socket.AF_INET, server4, port),
        "connect IPv6": lambda: connected(socket.AF_INET6, server6, port),
        "connect IPv4-mapped": lambda: connected(socket.AF_INET6, mapped, port),
        "errno without listener, IPv4": lambda: connect_errno(socket.AF_INET, server4, port + 9),
        "errno without listener, IPv6": lambda: connect_errno(socket.AF_INET6, server6, port + 9),
        "errno without listener, mapped": lambda: connect_errno(socket.AF_INET6, mapped, port + 9),
        "connect(2) itself": lambda: raw_connect_retval(server4, port),
        "non-blocking connect and poll": lambda: non_blocking(server4, port),
        "non-blocking connect, refused": lambda: non_blocking(server4, port + 9),
        "TCP fast open": lambda: fast_open(server4, port),
        "MPTCP": lambda: multipath(server4, port),
        "bind before connect": lambda: bound_first(server4, port),
        "UDP connected": lambda: udp_connected(server4, udp_port),
        "UDP unconnected": lambda: udp_unconnected(server4, udp_port),
        "reset after data": lambda: reset_order(server4, port + 2),
        "FIN after data, half-closed": lambda: fin_order(server4, port + 3),
        "stream sha256": lambda: stream(server4, port + 1, size),
    }


def main() -> None:
    server4, server6, port, udp_port, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    rows: dict[str, object] = {}
    for name, probe in table(server4, server6, port, udp_port, size).items():
        try:
            rows[name] = probe()
        except OSError as error:  # the row's result, compared like any other
            rows[name] = f"error {name_of(error)}"
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
