"""The sockets of the data path and their options; and a SocketSource for one network namespace (tests, benches)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

NOTSENT_LOWAT = 128 * 1024
"""Bytes the kernel may hold unsent before it stops calling a socket writable (TCP_NOTSENT_LOWAT)."""
_TCP_NOTSENT_LOWAT = 25
UPSTREAM_BUFFER = 1024 * 1024
"""SO_RCVBUF of upstream sockets: what an upstream can have sent that a client does not take.  Enough for 10 Gbit/s
at a millisecond; the kernel's own tuning goes to 6 MB, which 200 stalled clients would turn into 1.2 GB."""


def make_upstream(family: int) -> socket.socket:
    """An unconnected socket towards an endpoint, non-blocking."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        set_common(sock)
        with contextlib.suppress(PermissionError):  # without NET_ADMIN: the kernel's own tuning stays
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, UPSTREAM_BUFFER)
    except OSError:
        sock.close()
        raise
    return sock


_SO_RCVBUFFORCE = 33


def set_common(sock: socket.socket) -> None:
    """Options of every data socket: no delay, and no more unsent in the kernel than it takes to keep it busy."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)


class LocalSockets:
    """A SocketSource without a broker."""

    def take(self, cookie: int, family: int) -> socket.socket | None:  # noqa: ARG002 - one namespace for all
        return make_upstream(socket.AF_INET6 if family == 6 else socket.AF_INET)

    def wait(self, cookie: int, family: int, ready: Callable[[socket.socket | OSError], None]) -> None:
        """Never needed: `take` always has one."""
        made = self.take(cookie, family)
        ready(made if made is not None else OSError("no socket"))
