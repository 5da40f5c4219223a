"""One worker process as the agent sees it: its descriptors, its channel, what it reported."""

from __future__ import annotations

import enum
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nodeagent.agent.child import Child, python_module
from nodeagent.agent.control import ControlChannel
from nodeagent.kernel.ledger import LedgerFds
from nodeagent.proxy.frames import encode_command

DEFAULT_ARGV = python_module("nodeagent.proxy.worker")


class State(enum.Enum):
    STARTING = "starting"  # spawned, has not said ready
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class WorkerFds:
    """Descriptors a worker inherits; the agent closes `broker` and `lock` after the spawn, the maps stay open."""

    broker: int
    originals: int
    heartbeats: int
    requests: int
    ledger: LedgerFds
    lock: int

    def passed(self) -> tuple[int, ...]:
        return (self.broker, self.originals, self.heartbeats, self.requests, *self.ledger.passed(), self.lock)


@dataclass(slots=True)
class Report:
    """The last word of a worker on itself."""

    applied: int = 0
    listening: dict[tuple[int, int], int] = field(default_factory=dict)  # (cookie, family) -> port
    stats: dict[str, float] = field(default_factory=dict)
    events_lost: int = 0


class Worker:
    """A running process.  `on_report(worker, report)` and `on_exit(worker, status)` run on the loop."""

    def __init__(
        self,
        index: int,
        on_report: Callable[[Worker, dict[str, Any]], None],
        on_exit: Callable[[Worker, int], None],
    ) -> None:
        self.index = index
        self.state = State.STARTING
        self.report = Report()
        self.started = time.monotonic()
        self.broken = ""
        self.asked_to_drain = False
        self.killed = False  # its end may be a moment away
        self._on_report = on_report
        self._on_exit = on_exit
        self._child: Child | None = None
        self._channel = ControlChannel(lambda report: self._on_report(self, report), self._channel_broken)

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    @property
    def alive(self) -> bool:
        return self.state is not State.DEAD

    async def start(self, fds: WorkerFds, limits: dict[str, Any], argv: tuple[str, ...] = DEFAULT_ARGV) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            control = theirs.fileno()
            options = {
                "--index": self.index,
                "--control-fd": control,
                "--broker-fd": fds.broker,
                "--orig-map-fd": fds.originals,
                "--heartbeat-fd": fds.heartbeats,
                "--requests-fd": fds.requests,
                "--ledger-fds": fds.ledger,
                "--limits": json.dumps(limits),
            }
            words = [str(word) for option in options.items() for word in option]
            try:
                self._child = Child([*argv, *words], [control, *fds.passed()], self._exited)
            except OSError:
                ours.close()
                raise
            finally:
                os.close(fds.broker)
                os.close(fds.lock)
        await self._channel.open(ours)

    def send(self, kind: str, payload: object) -> None:
        self._channel.send(encode_command(kind, payload))

    def send_encoded(self, frame: bytes) -> None:
        """For what goes to every worker: encoded once."""
        self._channel.send(frame)

    def kill(self) -> None:
        self.killed = True
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def drain(self, seconds: float) -> None:
        self.state = State.DRAINING
        self.asked_to_drain = True
        self.send("drain", seconds)

    async def wait(self, seconds: float) -> bool:
        return self._child is None or await self._child.wait(seconds)

    def _channel_broken(self, why: str) -> None:
        # It cannot be trusted any more.
        self.broken = why
        self.kill()

    def _exited(self, status: int) -> None:
        self.state = State.DEAD
        self._channel.close()
        self._on_exit(self, status)
