"""Keeps the wanted number of workers alive: spawns, watches heartbeats, kills the hung, replaces the dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from nodeagent.agent import health
from nodeagent.agent.child import describe_exit
from nodeagent.agent.worker import State, Worker
from nodeagent.agent.worker_index import NoFreeIndexError

log = logging.getLogger(__name__)


class Host(Protocol):
    """What the supervisor needs of its surroundings; the Agent implements it."""

    def can_launch(self) -> bool:
        """False while what a worker needs is not there; `wake` tells that it is."""

    async def launch(self, worker: Worker) -> None:
        """Spawn the process and send it everything it needs.  OSError if it cannot be: `worker_gone` follows."""

    def claim_index(self, avoid: set[int]) -> int:
        """NoFreeIndexError while older workers hold all numbers."""

    def heartbeat(self, index: int) -> float:
        """CLOCK_MONOTONIC seconds of the last beat, 0 = not accepting."""

    def worker_reported(self, worker: Worker, report: dict[str, Any]) -> None: ...
    def worker_gone(self, worker: Worker) -> None: ...


class Supervisor:
    def __init__(self, host: Host, wanted: int, limits: health.Limits = health.DEFAULTS) -> None:
        self._host = host
        self._wanted = wanted
        self._limits = limits
        self._ready_since: dict[Worker, float] = {}
        self._workers: list[Worker] = []
        self._deaths_in_row = 0
        self._stopping = False
        self._wake = asyncio.Event()
        self._not_before = 0.0
        self.deaths = 0
        self.hung = 0
        self.last_death = ""
        self.problem = ""  # why a worker that is wanted was not started

    @property
    def workers(self) -> list[Worker]:
        return list(self._workers)

    @property
    def active(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.state in (State.STARTING, State.READY)]

    async def run(self) -> None:
        """Until cancelled: fill up, look at heartbeats; a death wakes it at once."""
        presence = health.Presence(self._limits, time.monotonic())
        while True:
            await self._fill()
            now = time.monotonic()
            hung_at = {worker: self._hung_at(worker) for worker in self.active if not worker.killed}
            if presence.judges(now):
                self._check(now, hung_at)
            moments = [*hung_at.values(), self._not_before, presence.judges_from]
            await self._sleep(health.until_check(self._limits, now, moments))

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _fill(self) -> None:
        while self._wants_more() and self._host.can_launch():
            await self._spawn()

    def _wants_more(self) -> bool:
        return not self._stopping and len(self.active) < self._wanted and time.monotonic() >= self._not_before

    async def _spawn(self) -> None:
        try:
            index = self._host.claim_index({worker.index for worker in self._workers})
        except (NoFreeIndexError, OSError) as error:
            self._cannot_start(str(error))
            return
        worker = Worker(index, self._reported, self._exited)
        self._workers.append(worker)
        try:
            await self._host.launch(worker)
        except OSError as error:
            self._cannot_start(f"worker {index} cannot be started: {error}")
            self._give_up(worker)
        else:
            self.problem = ""

    def _cannot_start(self, why: str) -> None:
        """What is missing (a number, memory, descriptors) may come back: it is tried again, slowly, for ever."""
        text = f"{why}; tried again every {self._limits.slow_retry:.0f} s"
        if text != self.problem:
            log.error("%s", text)
        self.problem = text
        self._not_before = time.monotonic() + self._limits.slow_retry

    def _give_up(self, worker: Worker) -> None:
        if worker.pid:
            worker.kill()  # its end is seen, and `_exited` does the rest
        else:
            self._workers.remove(worker)
            self._host.worker_gone(worker)

    def wake(self) -> None:
        """Something that was missing is there: look at once."""
        self._wake.set()

    def _reported(self, worker: Worker, report: dict[str, Any]) -> None:
        if report["op"] == "ready" and worker.state is State.STARTING:
            worker.state = State.READY
            self._ready_since[worker] = time.monotonic()
        self._host.worker_reported(worker, report)

    def _check(self, now: float, hung_at: Mapping[Worker, float]) -> None:
        for worker, at in hung_at.items():
            if now > at:
                self.hung += 1
                log.error("worker %d (pid %d) does not beat: it is killed and replaced", worker.index, worker.pid)
                worker.kill()

    def _hung_at(self, worker: Worker) -> float:
        beat, since = self._host.heartbeat(worker.index), self._ready_since.get(worker)
        return health.hung_at(self._limits, beat, since, worker.started)

    def _exited(self, worker: Worker, status: int) -> None:
        self._workers.remove(worker)
        self._ready_since.pop(worker, None)
        self._host.worker_gone(worker)
        if not self._stopping and not worker.asked_to_drain:
            self._note_death(worker, status)
        self._wake.set()

    def _note_death(self, worker: Worker, status: int) -> None:
        now = time.monotonic()
        self.deaths += 1
        self.last_death = worker.broken or describe_exit(status)
        lifetime = now - worker.started
        self._deaths_in_row = self._deaths_in_row + 1 if lifetime <= self._limits.quick_death else 0
        self._not_before = now + health.restart_delay(self._limits, lifetime, self._deaths_in_row)
        log.error("worker %d (pid %d) ended: %s; it is replaced", worker.index, worker.pid, self.last_death)

    def drain_active(self, drain_seconds: float) -> None:
        """Start new workers for the living ones and let those finish: their broker died."""
        for worker in self.active:
            worker.drain(drain_seconds)
        self._wake.set()

    async def stop(self, drain_seconds: float) -> None:
        """Drain all, wait for at most `drain_seconds`, then kill what is left."""
        self._stopping = True
        workers = self.workers
        for worker in workers:
            worker.drain(drain_seconds)
        await _each(workers, lambda worker: worker.wait(drain_seconds + 1))
        for worker in self.workers:
            worker.kill()
        await _each(workers, lambda worker: worker.wait(1))


async def _each(workers: list[Worker], action: Callable[[Worker], Awaitable[object]]) -> None:
    await asyncio.gather(*(action(worker) for worker in workers))
