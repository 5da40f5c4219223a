"""The sockets of the data path and their options; and a SocketSource for one network namespace (tests, benches)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import NamedTuple

from nodeagent.core.socket_buffers import LARGEST_RECEIVE_BUFFER, LARGEST_UNSENT

_TCP_NOTSENT_LOWAT = 25
_SO_RCVBUFFORCE = 33


class Buffers(NamedTuple):
    """Bytes that the kernel may keep for one data socket, from the worker's memory (`nodeagent.core.bounds`).

    `receive`: SO_RCVBUF, what the peer can have sent that is not read.  `unsent`: TCP_NOTSENT_LOWAT, what may wait to
    be sent before the socket stops being writable.
    """

    receive: int = LARGEST_RECEIVE_BUFFER
    unsent: int = LARGEST_UNSENT


def make_upstream(family: int, buffers: Buffers) -> socket.socket:
    """An unconnected socket towards an endpoint, non-blocking."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        set_common(sock, buffers)
    except OSError:
        sock.close()
        raise
    return sock


def set_common(sock: socket.socket, buffers: Buffers) -> None:
    """Options of every data socket; a listener's are inherited by what it accepts."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, buffers.unsent)
    with contextlib.suppress(PermissionError):  # without NET_ADMIN: the kernel's own tuning stays
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffers.receive)


class LocalSockets:
    """A SocketSource without a broker."""

    def take(self, cookie: int, family: int) -> socket.socket | None:  # noqa: ARG002 - one namespace for all
        return make_upstream(socket.AF_INET6 if family == 6 else socket.AF_INET, Buffers())

    def wait(self, cookie: int, family: int, ready: Callable[[socket.socket | OSError], None]) -> None:
        """Never needed: `take` always has one."""
        made = self.take(cookie, family)
        ready(made if made is not None else OSError("no socket"))
