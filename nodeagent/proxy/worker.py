"""A worker of the data plane: `python -m nodeagent.proxy.worker`, started by the agent with its descriptors.

Everything that needs a privilege happens before `sandbox.confine_worker`; from then on this process is nobody,
serves what its listeners accept, and knows the world through its descriptors: the agent, the broker, maps, the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import mmap
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from nodeagent.core.bounds import Bounds
from nodeagent.kernel.abi import MAX_WORKERS, SERIES_PER_WORKER
from nodeagent.kernel.bpf_map import Map
from nodeagent.kernel.ledger import KernelLedger, LedgerFds
from nodeagent.proxy import sandbox
from nodeagent.proxy.acceptor import Acceptor
from nodeagent.proxy.accounting import SERIES_BYTES, Accounting
from nodeagent.proxy.agent_channel import AgentChannel
from nodeagent.proxy.broker_sockets import BrokerSockets
from nodeagent.proxy.data_loop import DataLoop
from nodeagent.proxy.engine import Engine
from nodeagent.proxy.memory import Resident
from nodeagent.proxy.originals import KernelOriginals
from nodeagent.proxy.updates import Head, Incoming
from nodeagent.regex import compile_regex

STATS_SECONDS = 1.0
DRAIN_IDLE_SECONDS = 0.5
"""While draining, a keep-alive connection that was quiet for so long is closed: a request may be on its way to one
that was used just now."""
STRAGGLER_SECONDS = 0.5
ORPHAN_SECONDS = 10.0
"""The agent is gone, and with it the broker: what is in flight may end, nothing new comes."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What the agent passed."""

    control: int
    broker: int
    originals: int
    heartbeats: int
    requests: int
    ledger: LedgerFds


class Worker:
    """Glue between the agent's commands, the broker's sockets and the Engine."""

    def __init__(self, loop: DataLoop, index: int, bounds: Bounds, fds: Descriptors) -> None:
        self._loop = loop
        self._fds = fds
        self._beats = memoryview(mmap.mmap(fds.heartbeats, MAX_WORKERS * 8)).cast("Q")
        self._index = index
        self._bounds = bounds
        self._accounting = Accounting(mmap.mmap(fds.requests, SERIES_PER_WORKER * SERIES_BYTES))
        self._ledger = KernelLedger(fds.ledger, index)
        self._originals = KernelOriginals(Map.from_fd(fds.originals))
        self._acceptors: dict[tuple[int, int], Acceptor] = {}
        self._incoming = Incoming()
        self._resident = Resident()
        self._done = asyncio.Event()
        self._next_stats = 0.0
        self._reported: dict[str, float] = {}
        self._drain_until = 0.0
        self._close_listeners_at = 0.0

    async def run(self) -> None:
        loop = self._loop
        self._channel = AgentChannel(self._on_command, self._agent_gone)
        broker = socket.socket(fileno=self._fds.broker)
        self._sockets = BrokerSockets(
            loop, broker, self._on_listener, self._on_pod_gone, self._broker_gone, self._bounds.socket_stock
        )
        self._engine = Engine(
            loop,
            self._bounds,
            self._sockets,
            self._accounting,
            self._ledger,
            compile_regex,
            self._on_event,
            self._on_tick,
            self._resident,
        )
        loop.set_exception_handler(self._on_exception)
        await self._channel.open(socket.socket(fileno=self._fds.control))
        self._engine.start()
        self._channel.report("ready")
        await self._done.wait()
        self._engine.stop()

    # ---- the agent ----

    def _on_command(self, kind: str, payload: Any) -> None:
        if kind == "part":
            self._incoming.part(payload)
        elif kind == "rules":
            self._incoming.rules(*payload)
        elif kind == "snapshot":
            self._take_snapshot(payload)
        elif kind == "pods":
            self._engine.set_pods(payload)
        elif kind == "observe":
            self._engine.observing = bool(payload)
            self._channel.report("observing", number=payload)
        elif kind == "connections":
            self._channel.report("connections", rows=self._engine.rows())
        elif kind == "busy_pods":
            self._channel.report("busy_pods", rows=self._engine.busy_pods())
        elif kind == "drain":
            self._drain(float(payload))

    def _take_snapshot(self, head: Head) -> None:
        """The agent sends the whole one when it hears of a gap."""
        current = self._engine.snapshot
        snapshot = self._incoming.finish(head, current)
        if snapshot is None:
            self._channel.report("gap", generation=current.generation)
            return
        self._engine.apply(snapshot)
        self._channel.report("applied", generation=snapshot.generation)

    def _on_event(self, event: dict[str, Any]) -> None:
        if not self._channel.event(event):
            self._engine.stats.events_lost += 1

    def _agent_gone(self) -> None:
        self._drain(ORPHAN_SECONDS)

    # ---- the broker ----

    def _on_listener(self, cookie: int, family: int, listener: socket.socket | None) -> None:
        """Port 0 tells the agent that the pod has no such family, so that it waits for nothing."""
        port = 0
        if listener is not None:
            if self._drain_until:
                listener.close()
                return
            acceptor = Acceptor(self._engine, self._originals, listener, cookie, family)
            self._close_acceptor((cookie, family))
            self._acceptors[cookie, family] = acceptor
            port = acceptor.port
        self._channel.report("listening", cookie=cookie, family=family, port=port)

    def _on_pod_gone(self, cookie: int) -> None:
        for key in [key for key in self._acceptors if key[0] == cookie]:
            self._close_acceptor(key)

    def _close_acceptor(self, key: tuple[int, int]) -> None:
        acceptor = self._acceptors.pop(key, None)
        if acceptor is not None:
            acceptor.close()

    def _broker_gone(self) -> None:
        """Upstreams cannot be opened any more; the agent replaces us.  Until then the hooks must avoid us."""
        self._beat(0)

    # ---- time ----

    def _on_tick(self, now: float) -> None:
        self._sockets.tick(now)
        if self._drain_until:
            self._go_on_draining(now)
        elif not self._sockets.ended:
            self._beat(time.monotonic_ns())
        if now >= self._next_stats:
            self._next_stats = now + STATS_SECONDS
            _spare_collector()
            self._report({**self._engine.stats.as_json(), **self._engine.gauges(), **self._ledger.counts()})

    def _report(self, counts: dict[str, float]) -> None:
        """Unless the agent knows it already: an idle worker's are the same for seconds."""
        if counts != self._reported:
            self._reported = counts
            self._channel.report("stats", **counts)

    def _beat(self, nanoseconds: int) -> None:
        self._beats[self._index] = nanoseconds

    def _drain(self, seconds: float) -> None:
        """Let requests finish, close what is idle, end when all is closed or time is up.

        New connections do not come, since our heart stops; those that the hooks pointed here before may still be on
        their way or in the queue, where closing the listener would reset them: it stays for STRAGGLER_SECONDS.
        """
        if self._drain_until:
            return
        now = time.monotonic()
        self._drain_until = now + seconds
        self._close_listeners_at = now + min(STRAGGLER_SECONDS, seconds / 2)
        self._beat(0)
        self._engine.draining = True

    def _go_on_draining(self, now: float) -> None:
        self._engine.close_idle(DRAIN_IDLE_SECONDS)
        if now >= self._close_listeners_at:
            for key in list(self._acceptors):
                self._close_acceptor(key)
        if now >= self._drain_until or not (self._engine.connections or self._acceptors):
            self._done.set()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A bug in a callback costs its own connection, which nobody will finish: count it and go on."""
        self._engine.stats.internal_errors += 1
        loop.default_exception_handler(context)


def _spare_collector() -> None:
    """Keep the garbage collector from ever walking much at once: what is alive now is not looked at again.

    Connections and configuration go by reference counts (tests/proxy/test_garbage.py), frozen or not.  A full
    collection would walk all of them: 10 ms and more for 100,000 objects, while every request waits.
    """
    gc.collect(1)
    gc.freeze()


def main() -> None:
    parser = argparse.ArgumentParser(prog="nodeagent.proxy.worker")
    for name in ("--index", "--control-fd", "--broker-fd", "--orig-map-fd", "--heartbeat-fd", "--requests-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--ledger-fds", type=LedgerFds.parse, required=True)
    parser.add_argument("--limits", required=True)
    arguments = parser.parse_args()
    # A Ctrl-C or SIGTERM for the process group is the agent's to handle: it tells us to drain.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fds = Descriptors(
        arguments.control_fd,
        arguments.broker_fd,
        arguments.orig_map_fd,
        arguments.heartbeat_fd,
        arguments.requests_fd,
        arguments.ledger_fds,
    )
    bounds = Bounds.from_json(json.loads(arguments.limits))
    with contextlib.closing(DataLoop()) as loop:
        worker = Worker(loop, arguments.index, bounds, fds)
        sandbox.confine_worker()
        gc.collect()  # the modules' garbage, while nobody waits yet
        gc.freeze()
        loop.run_until_complete(worker.run())


if __name__ == "__main__":
    main()
