"""One connection to an endpoint: connected, used by one exchange after the other, kept by the pool in between."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from nodeagent.core.model import Endpoint
from nodeagent.proxy.budgets import READ_BYTES
from nodeagent.proxy.lane import WRITE
from nodeagent.proxy.policies.lease import Lease
from nodeagent.proxy.stream import Bug, Stream

if TYPE_CHECKING:
    from nodeagent.proxy.pool import Pool

Key = tuple[int, Endpoint, str]
"""Netns cookie of the caller's pod, where to, and a group: connections that count under a cap are kept apart."""


class User(Protocol):
    """Who uses an upstream connection at the moment."""

    def upstream_connected(self) -> None: ...
    def upstream_failed(self, error: OSError) -> None: ...
    def upstream_data(self, data: bytes) -> None: ...
    def upstream_ended(self, error: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Upstream:
    """One connection to an endpoint, in use by `user` or idle (None).  `stream` is there once it is connected."""

    __slots__ = (
        "_given_up",
        "_pool",
        "_sock",
        "_watched",
        "connected",
        "expires",
        "key",
        "lease",
        "stream",
        "tenant",
        "user",
    )

    stream: Stream

    def __init__(self, pool: Pool, key: Key, user: User | None) -> None:
        self._pool = pool
        self.tenant = pool.engine.tenants.client(key[0])
        self._sock: socket.socket | None = None
        self._watched = False  # for the end of the handshake
        self._given_up = False
        self.key = key
        self.user: User | None = user
        self.lease: Lease | None = None  # the place it holds under a circuit breaker
        self.expires = 0.0
        self.connected = False

    # ---- connecting ----

    def connect(self) -> None:
        """Get a socket and connect it, within `connect_seconds` altogether.

        The outcome comes to the user, possibly before this returns.
        """
        engine = self._pool.engine
        cookie, endpoint, _ = self.key
        family = 6 if ":" in endpoint.address else 4
        sock = engine.sockets.take(cookie, family)
        if sock is not None:
            self._dial(sock)
            return
        engine.connecting.start(self, engine.now())
        engine.sockets.wait(cookie, family, self._socket_came)

    def _socket_came(self, made: socket.socket | OSError) -> None:
        if self._given_up:
            if not isinstance(made, OSError):
                made.close()
            return
        self._pool.engine.connecting.stop(self)
        with self._user_hears_of_bugs():
            self._connect_failed(made) if isinstance(made, OSError) else self._dial(made)

    def _dial(self, sock: socket.socket) -> None:
        endpoint = self.key[1]
        self._sock = sock
        error = sock.connect_ex((endpoint.address, endpoint.port))
        if not error or (error == errno.EINPROGRESS and _is_connected(sock)):
            self._established()
        elif error != errno.EINPROGRESS:
            self._connect_failed(OSError(error, "connect"))
        else:
            self._pool.engine.connecting.start(self, self._pool.engine.now())
            self.tenant.lane.watch(sock.fileno(), WRITE, self._connect_ready)
            self._watched = True

    def _connect_ready(self, _events: int) -> None:
        if not self._watched:
            return  # given up by a handler of the same batch
        assert self._sock is not None
        self._stop_connecting()
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        with self._user_hears_of_bugs():
            self._connect_failed(OSError(error, "connect")) if error else self._established()

    def _stop_connecting(self) -> None:
        if self._watched and self._sock is not None:
            self._watched = False
            self.tenant.lane.unwatch(self._sock.fileno())
        self._pool.engine.connecting.stop(self)

    def connect_timed_out(self) -> None:
        self._stop_connecting()
        with self._user_hears_of_bugs():
            self._connect_failed(self.lateness)

    @contextmanager
    def _user_hears_of_bugs(self) -> Iterator[None]:
        """For what comes from the loop and not from a call of the user, who would wait for it in vain."""
        user = self.user
        try:
            yield
        except Exception as error:  # noqa: BLE001 - reported, counted
            report = self._pool.engine.loop.call_exception_handler
            report({"message": "a new connection to an endpoint met a bug", "exception": error})
            if user is not None:
                user.upstream_ended(Bug(error))

    @property
    def lateness(self) -> OSError:
        """What it has waited for too long: the endpoint, or a socket of ours."""
        if self._sock is None:
            return OSError(errno.ENOBUFS, "no socket")
        return TimeoutError(errno.ETIMEDOUT, "connect")

    def _connect_failed(self, error: OSError) -> None:
        self._given_up = True
        user, self.user = self.user, None
        if self._sock is not None:
            self._sock.close()
        self.end_lease()
        if user is not None:
            user.upstream_failed(error)

    def _established(self) -> None:
        engine = self._pool.engine
        assert self._sock is not None
        self.connected = True
        if self.lease is not None:
            self.lease.connected()
        budget = engine.tenants.towards(self.tenant, self.key[1].address)
        high = engine.bounds.buffered_per_connection
        self.stream = Stream(engine.loop, self.tenant.lane, self._sock, self, budget, high)
        self.stream.start()
        if self.user is not None:
            self.user.upstream_connected()

    # ---- from the stream ----

    def data_received(self, data: bytes) -> None:
        if self.user is not None:
            self.user.upstream_data(data)
        else:
            self._pool.forget(self, "unsolicited")

    def eof_received(self) -> None:
        if self.user is not None:
            self.user.upstream_ended(None)
        else:
            self._pool.forget(self, "closed")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.user is not None:
            self.user.upstream_ended(exc or ConnectionError())
        else:
            self._pool.forget(self, "closed")

    def write_failed(self, _error: OSError) -> None:
        """Nothing to do: what the upstream said before it stopped listening can be read, and so can its end."""

    def peer_gone(self) -> None:
        """Nothing to do, for the same reason: its user reads on when the client takes more."""

    def pause_writing(self) -> None:
        if self.user is not None:
            self.user.pause_writing()

    def resume_writing(self) -> None:
        if self.user is not None:
            self.user.resume_writing()

    # ---- from the user ----

    def discard(self) -> None:
        """The connection cannot serve again."""
        self.user = None
        if self.connected:
            self.close()
        elif not self._given_up:
            self._stop_connecting()
            self._connect_failed(OSError(errno.ECANCELED, "connect"))

    def abort(self) -> None:
        """As discard, but the upstream sees a reset: it must not take what it got for a whole request."""
        self.user = None
        if self.connected:
            self.stream.abort()
            self.end_lease()
        else:
            self.discard()

    def close(self) -> None:
        """A connection that was made ends."""
        self.stream.discard()
        self.end_lease()

    def end_lease(self) -> None:
        if self.lease is not None:
            self.lease.end()
            self.lease = None

    def release(self, idle_seconds: float) -> None:
        """Its exchange is over in good order.  `idle_seconds`: the server's Keep-Alive timeout, -1 = none given."""
        self.user = None
        self.stream.read_bytes = READ_BYTES
        self._pool.keep(self, idle_seconds)


def _is_connected(sock: socket.socket) -> bool:
    """On one machine the handshake is over by the time connect() returns EINPROGRESS: no need to wait for the loop."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
