"""The upstream side of a connection, and the idle ones kept for reuse.

Idle connections are kept per (pod, endpoint, group), last in first out: the youngest is the least likely to be
closed by its server meanwhile.  One is reused only if nothing, no byte and no end, waits to be read on it.

A pod may have all of the room that others leave.  Once there is none, who has most gives way to who has less: so none
is left with less than its even part.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from nodeagent.core.model import Endpoint
from nodeagent.proxy.budgets import READ_BYTES
from nodeagent.proxy.lane import WRITE
from nodeagent.proxy.policies.lease import Lease
from nodeagent.proxy.stream import Bug, Stream

if TYPE_CHECKING:
    from nodeagent.proxy.engine import Engine
    from nodeagent.proxy.tenants import Tenant

Key = tuple[int, Endpoint, str]
"""Netns cookie of the caller's pod, where to, and a group: connections that count under a cap are kept apart."""

KEEP_ALIVE_MARGIN = 1.0
"""Seconds taken off a server's announced Keep-Alive timeout: our clock starts when its response arrived here."""


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


def _idle_of(tenant: Tenant) -> int:
    return tenant.idle


Name = TypeVar("Name")


def _forget_key(index: dict[Name, dict[Key, None]], name: Name, key: Key) -> None:
    keys = index[name]
    del keys[key]
    if not keys:
        del index[name]


class Pool:
    """Idle upstream connections."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._idle: dict[Key, deque[Upstream]] = {}
        self._groups: dict[str, dict[Key, None]] = {}  # keys of `_idle` by group, but for group ""
        self._of_pod: dict[int, dict[Key, None]] = {}  # by pod, those at the front to give way first
        self.size = 0  # of each pod: `idle` of its Tenant

    def take(self, key: Key) -> Upstream | None:
        """The youngest idle connection that is still quiet."""
        idle = self._idle.get(key)
        now = self.engine.tick
        while idle:
            upstream = idle.pop()
            self.size -= 1
            upstream.tenant.idle -= 1
            if upstream.expires > now and upstream.stream.is_quiet:
                return upstream
            self.engine.stats.upstream_discarded += 1
            upstream.close()
        return None

    def open(self, key: Key, user: User) -> Upstream:
        """A new connection for `user`, which calls its `connect`."""
        self.engine.stats.upstream_opened += 1
        return Upstream(self, key, user)

    def keep(self, upstream: Upstream, idle_seconds: float) -> None:
        bounds = self.engine.bounds
        seconds = bounds.upstream_idle_seconds
        if idle_seconds >= 0:
            seconds = min(seconds, idle_seconds - KEEP_ALIVE_MARGIN)
        if upstream.stream.unsent:
            seconds = 0.0  # of a request that was answered early: the next one would queue behind it
        if seconds <= 0:
            upstream.close()
            return
        idle = self._idle.get(upstream.key)
        if idle is None:
            idle = self._add(upstream.key)
        if len(idle) >= bounds.upstream_idle_per_endpoint or (
            self.size >= bounds.upstream_idle_total and not self._another_gives_way(upstream.tenant)
        ):
            self.engine.stats.upstream_not_kept += 1
            upstream.close()
            return
        upstream.expires = self.engine.tick + seconds
        idle.append(upstream)
        self.size += 1
        upstream.tenant.idle += 1

    def _add(self, key: Key) -> deque[Upstream]:
        idle = self._idle[key] = deque()
        self._of_pod.setdefault(key[0], {})[key] = None
        if group := key[2]:
            self._groups.setdefault(group, {})[key] = None
        return idle

    def _another_gives_way(self, tenant: Tenant) -> bool:
        """The pod that has most closes one that was idle long; False when `tenant` has as many.

        Of its endpoints each gives one in turn.  It costs what closing the new one instead would have.
        """
        most = max(self.engine.tenants, key=_idle_of)
        if most.idle <= tenant.idle:
            return False
        keys = self._of_pod[most.cookie]
        while not self._idle[key := next(iter(keys))]:
            self._remove(key)
        keys[key] = keys.pop(key)
        self._close(self._idle[key].popleft())
        self.engine.stats.upstream_gave_way += 1
        return True

    def _close(self, upstream: Upstream) -> None:
        """It is out of its queue."""
        self.size -= 1
        upstream.tenant.idle -= 1
        upstream.close()

    def forget(self, upstream: Upstream, why: str) -> None:
        """An idle connection ended, or spoke without being asked."""
        idle = self._idle.get(upstream.key)
        if idle is not None and upstream in idle:
            idle.remove(upstream)
            self.size -= 1
            upstream.tenant.idle -= 1
        if why == "unsolicited":
            self.engine.stats.upstream_unsolicited += 1
        upstream.close()

    def close_idle_of(self, group: str) -> bool:
        """Close one idle connection of the group to make room under its cap; False when there is none."""
        keys = self._groups.get(group, {})
        while keys:
            key = next(reversed(keys))
            idle = self._idle[key]
            if idle:
                self._close(idle.popleft())
                return True
            self._remove(key)
        return False

    def _remove(self, key: Key) -> deque[Upstream]:
        """The queue of a key, which may have some yet."""
        _forget_key(self._of_pod, key[0], key)
        if key[2]:
            _forget_key(self._groups, key[2], key)
        return self._idle.pop(key)

    def expire(self, now: float, most: int) -> bool:
        """Close up to `most` connections that have been idle too long, oldest first; True when there may be more."""
        for key, idle in list(self._idle.items()):
            # A short Keep-Alive timeout may hide behind a longer one; `take` looks at each again.
            while idle and idle[0].expires <= now:
                if not most:
                    return True
                most -= 1
                self._close(idle.popleft())
            if not idle:
                self._remove(key)
        return False

    def forget_pod(self, cookie: int) -> None:
        """The pod is gone; so is the namespace its connections were made in."""
        for key in list(self._of_pod.get(cookie, ())):
            for upstream in self._remove(key):
                self._close(upstream)

    def close(self) -> None:
        for cookie in list(self._of_pod):
            self.forget_pod(cookie)
