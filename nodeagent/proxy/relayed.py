"""A connection to a port that is not HTTP: connected at once, without waiting for the first byte, and relayed."""

from __future__ import annotations

import socket
from random import random
from typing import TYPE_CHECKING

from nodeagent.core.balance import choose_endpoint
from nodeagent.core.model import Destination, Endpoint
from nodeagent.proxy.relay import Relay
from nodeagent.proxy.stream import Stream
from nodeagent.proxy.upstream import Upstream

if TYPE_CHECKING:
    from nodeagent.proxy.engine import Engine
    from nodeagent.proxy.tenants import Server, Tenant
    from nodeagent.proxy.view import View


class RelayedConnection:
    """The client's stream is not read before the upstream is there, so nothing has to be held."""

    __slots__ = (
        "_moved",
        "_relay",
        "_server",
        "_up",
        "address",
        "cookie",
        "engine",
        "opened",
        "port",
        "stream",
        "tenant",
        "used",
        "view",
    )

    def __init__(
        self, engine: Engine, sock: socket.socket, tenant: Tenant, view: View, original: tuple[str, int]
    ) -> None:
        self.engine = engine
        self.tenant = tenant
        self.cookie = tenant.cookie
        self.view = view
        self.address, self.port = original
        self.opened = self.used = engine.tick
        self._moved = 0
        self._up: Upstream | None = None
        self._relay: Relay | None = None
        self._server: Server | None = None
        high = engine.bounds.buffered_per_connection
        self.stream = Stream(engine.loop, tenant.lane, sock, self, tenant.budget, high)

    def start(self) -> None:
        endpoint = _endpoint(self.view.destination, self.address, self.port)
        if endpoint is None:
            self._fail()
            return
        server = self.engine.tenants.server(endpoint.address)
        if server.connections >= server.max_connections:
            self.engine.stats.reset_over_server_limit += 1
            self._fail()
            return
        self._server = server
        server.connections += 1
        self._up = self.engine.pool.open((self.cookie, endpoint, ""), self)
        self._up.connect()

    def upstream_connected(self) -> None:
        assert self._up is not None
        self._up.user = None
        self._relay = Relay(self.stream, self._up.stream, lambda _sent, _received: self._ended())
        self._relay.start(b"", b"")

    def upstream_failed(self, _error: OSError) -> None:
        self._up = None
        self._fail()

    def upstream_ended(self, _error: Exception | None) -> None:
        """A bug of ours, while it was made: once it is, the relay is told."""
        self.discard()

    def _fail(self) -> None:
        """The client asked for a connection that cannot be had: reset, as a refused connect would look."""
        self.stream.abort()
        self._ended()

    def _ended(self) -> None:
        if self._server is not None:
            self._server.connections -= 1
            self._server = None
        self.engine.closed(self)

    def end_if_idle(self, before: float) -> None:
        """End it when nothing moved since `before` (on the engine's clock)."""
        if self._relay is not None and self._relay.moved != self._moved:
            self._moved = self._relay.moved
            self.used = self.engine.tick
        elif self.used < before:
            self.discard()

    def discard(self) -> None:
        if self._relay is not None:
            self._relay.finish(abort=True)
            return
        up, self._up = self._up, None
        if up is not None:
            up.discard()
        self._fail()

    # Nothing arrives before the relay takes over; a Stream's and an Upstream's callbacks, for completeness of both.

    def upstream_data(self, data: bytes) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def write_failed(self, error: OSError) -> None: ...
    def peer_gone(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


def _endpoint(destination: Destination, address: str, port: int) -> Endpoint | None:
    if destination.is_frontend:
        return choose_endpoint(destination.endpoints, random())
    return Endpoint(address, port)
