"""The agent's side of the broker: start it, tell it pods and workers, hear its errors.

The broker is the only process that enters pods' namespaces for sockets; it is restarted when it
dies, and since its sockets to the workers died with it, the workers are then replaced too.  One that
lives and does not run (stopped, stuck in a system call) is killed: it must not be missed more quietly.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from nodeagent.agent import health
from nodeagent.agent.child import Child, describe_exit, python_module
from nodeagent.agent.seqpacket import SeqPacketChannel
from nodeagent.proxy import pulse

log = logging.getLogger(__name__)

BROKER = python_module("nodeagent.proxy.broker")
STOP_SECONDS = 2.0
# Silent for 2.5 s = hung.  The first beat may take as long as Python on a loaded node.
LIMITS = health.Limits(check=1.0, beat=2.5, period=pulse.BEAT_SECONDS, start=20.0)


class BrokerClient:
    """One broker process.  `on_dead` is called once if it ends without having been stopped."""

    def __init__(
        self, on_dead: Callable[[str], None], argv: tuple[str, ...] = (), limits: health.Limits = LIMITS
    ) -> None:
        self._argv = argv or BROKER
        self._on_dead = on_dead
        self._child: Child | None = None
        self._channel: SeqPacketChannel | None = None
        self._stopping = False
        self._limits = limits
        self._started = 0.0
        self._presence = health.Presence(limits, 0.0)
        self._pulse: pulse.Pulse | None = None
        self._ready_since: float | None = None  # when its first beat was seen
        self._timer: asyncio.TimerHandle | None = None
        self._hung = ""
        self.errors = 0
        self.last_error = ""

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    @property
    def lifetime(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._started

    @property
    def alive(self) -> bool:
        return self._child is not None and not self._child.exited.is_set()

    def start(self) -> None:
        self._started = time.monotonic()
        self._presence = health.Presence(self._limits, self._started)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, pulse.shared() as (beats, self._pulse):
            fd = theirs.fileno()
            argv = [*self._argv, "--control-fd", str(fd), "--pulse-fd", str(beats)]
            try:
                self._child = Child(argv, [fd, beats], self._exited)
            except OSError:
                ours.close()
                raise
        self._channel = SeqPacketChannel(ours, self._on_message, lambda: None)
        self._watch()

    def _watch(self) -> None:
        """Kill it when it has not run for too long, which `on_dead` then hears."""
        now = time.monotonic()
        hung_at = self._hung_at(now)
        if self._presence.judges(now) and now > hung_at:
            self._hung = f"it did not run for {self._limits.beat:.1f} s and was killed"
            if self._child is not None:
                self._child.signal(signal.SIGKILL)
            return
        pause = health.until_check(self._limits, now, [hung_at, self._presence.judges_from])
        self._timer = asyncio.get_running_loop().call_later(pause, self._watch)

    def _hung_at(self, now: float) -> float:
        last = self._pulse.last if self._pulse is not None else 0.0
        if last and self._ready_since is None:
            self._ready_since = now
        return health.hung_at(self._limits, last, self._ready_since, self._started)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def add_pod(self, cookie: int, netns_fd: int) -> None:
        self._send({"op": "pod_add", "cookie": cookie}, [netns_fd])

    def remove_pod(self, cookie: int) -> None:
        self._send({"op": "pod_del", "cookie": cookie})

    def add_worker(self, index: int) -> int:
        """Make the socket pair broker <-> worker; returns the worker's end (the caller owns the descriptor)."""
        brokers, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with brokers:
            self._send({"op": "worker_add", "worker": index}, [brokers.fileno()])
        return workers.detach()

    def remove_worker(self, index: int) -> None:
        self._send({"op": "worker_del", "worker": index})

    def _send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        if self._channel is not None:
            self._channel.send(message, fds or [])

    def _on_message(self, message: dict[str, Any]) -> None:
        if message.get("op") == "error":
            self.errors += 1
            self.last_error = str(message.get("message", ""))
            log.warning("broker: %s (cookie %s)", self.last_error, message.get("cookie"))

    def _exited(self, status: int) -> None:
        self._unwatch()
        if self._channel is not None:
            self._channel.close()
        if not self._stopping:
            self._on_dead(self._hung or describe_exit(status))

    async def stop(self) -> None:
        """Close the channel (the broker ends on EOF) and make sure that it did."""
        self._stopping = True
        self._unwatch()
        if self._channel is not None:
            self._channel.close()
        if self._child is not None and not await self._child.wait(STOP_SECONDS):
            self._child.signal(signal.SIGKILL)
            await self._child.wait(STOP_SECONDS)
