"""The data path of one worker on loopback: its engine on a thread of its own, before one recording upstream.

What a node adds is left out here: the kernel's redirection, pods' namespaces and the broker.  A connection to
`Mesh.address` is served as if a pod had dialled the upstream.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from nodeagent import regex
from nodeagent.core.bounds import Bounds
from nodeagent.core.ledger import LocalLedger
from nodeagent.core.model import (
    Action,
    Destination,
    EnforcementLevel,
    HttpOperation,
    Policy,
    PolicyRule,
    Protocol,
    Snapshot,
    Workload,
)
from nodeagent.proxy.accounting import Accounting
from nodeagent.proxy.data_loop import DataLoop
from nodeagent.proxy.engine import Engine
from tests.proxy.corpus.upstreams import RecordingUpstream
from tests.proxy.corpus.wire import Address

COOKIE = 1
CALLER = Workload("shop", "web-1", "web", "web", ("127.0.0.1",), enrolled=True)


class PlainSockets:
    """Upstream sockets made on the spot, in this very namespace."""

    def take(self, _cookie: int, family: int) -> socket.socket | None:
        made = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def wait(self, cookie: int, family: int, ready: Callable[[socket.socket | OSError], None]) -> None:
        raise AssertionError("take always gives a socket")


class Mesh:
    """A running data path; `deny` changes the configuration of live connections as an agent would."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.upstream = RecordingUpstream()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.address: Address = self._listener.getsockname()
        self._generation = 0
        self.errors: list[str] = []
        self._loop = DataLoop()
        self._loop.set_exception_handler(lambda _loop, context: self.errors.append(repr(context)))
        sockets, accounting = PlainSockets(), Accounting.anonymous()
        self.engine = Engine(
            self._loop, bounds or Bounds(), sockets, accounting, LocalLedger(time.monotonic_ns), regex.compile_regex
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.deny()

    def deny(self, *operations: HttpOperation) -> None:
        """A DENY policy with these operations and no other; none at all: no policy."""
        rules = (PolicyRule(sources=(), ports=(), http=operations),)
        policy = Policy("shop/deny", Action.DENY, EnforcementLevel.APPLICATION, rules)
        address, port = self.upstream.address
        name = f"{address}:{port}"
        policies = (policy,) if operations else ()
        destination = Destination(name, address, port, Protocol.HTTP1, is_frontend=False, policies=policies)
        self._generation += 1
        snapshot = Snapshot(self._generation, {(address, port): destination}, {CALLER.key: CALLER})
        self._call(lambda: self.engine.apply(snapshot))

    def close(self) -> None:
        self._call(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self.upstream.close()

    def _run(self) -> None:
        self.engine.set_pods({COOKIE: CALLER.key})
        self.engine.start()
        self._loop.add_reader(self._listener.fileno(), self._accept)
        self._loop.run_forever()
        self._loop.close()

    def _stop(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self.engine.stop()

    def _accept(self) -> None:
        try:
            sock, peer = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.engine.adopt(sock, COOKIE, peer[0], self.upstream.address)

    def _call(self, work: Callable[[], None]) -> None:
        """Runs `work` on the engine's loop and waits for it."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - handed to the caller's thread
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(timeout=10)
