"""Upstream sockets made in this process: for one network namespace, as in tests and benches of the data path."""

from __future__ import annotations

import socket
from collections.abc import Callable

NOTSENT_LOWAT = 128 * 1024
"""Bytes the kernel may hold unsent before it stops calling a socket writable (TCP_NOTSENT_LOWAT)."""


class LocalSockets:
    """A SocketSource without a broker."""

    def take(self, cookie: int, family: int) -> socket.socket | None:  # noqa: ARG002 - one namespace for all
        sock = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def wait(self, cookie: int, family: int, ready: Callable[[socket.socket | OSError], None]) -> None:
        """Never needed: `take` always has one."""
        made = self.take(cookie, family)
        ready(made if made is not None else OSError("no socket"))
