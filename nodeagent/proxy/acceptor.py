"""One listener of the worker inside a pod's namespace: accepts, and asks where each connection was going."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Protocol

from nodeagent.proxy.lane import READ

if TYPE_CHECKING:
    from nodeagent.proxy.engine import Engine

PAUSE_SECONDS = 0.1
"""Out of descriptors, a listener stays readable: accepting rests instead of spinning."""
BATCH = 16
"""Connections taken per wake-up at most; fewer in a short turn: it is the other pods' time too."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class OriginalDestinations(Protocol):
    """Where redirected connections were going; each is told once."""

    def take(self, cookie: int, address: str, port: int, listener_port: int, family: int) -> tuple[str, int] | None:
        """(canonical address, port) for the connection that comes from (address, port), or None."""


class Acceptor:
    """Accepts from `listener` (non-blocking, bound to a loopback address of the pod) until closed."""

    def __init__(
        self, engine: Engine, originals: OriginalDestinations, listener: socket.socket, cookie: int, family: int
    ) -> None:
        self._engine = engine
        self._originals = originals
        self._listener = listener
        self.cookie = cookie
        self.family = family
        self.port: int = listener.getsockname()[1]
        self.closed = False
        self._lane = engine.tenants.client(cookie).lane
        self._lane.watch(listener.fileno(), READ, self._accept_ready)

    def _resume(self) -> None:
        if not self.closed:
            self._lane.change(self._listener.fileno(), READ)

    def _accept_ready(self, _events: int) -> None:
        for _ in range(0 if self.closed else min(BATCH, self._lane.turn)):
            try:
                sock, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause()
                return
            sock.setblocking(False)
            original = self._originals.take(self.cookie, peer[0], peer[1], self.port, self.family)
            self._engine.adopt(sock, self.cookie, peer[0], original)

    def _pause(self) -> None:
        self._engine.stats.accept_paused += 1
        self._lane.change(self._listener.fileno(), 0)
        self._engine.loop.call_later(PAUSE_SECONDS, self._resume)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._lane.unwatch(self._listener.fileno())
            self._listener.close()
