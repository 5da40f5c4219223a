"""Makes the canary connect every few seconds and keeps what came of it, for `/readyz` (nodeagent.core.canary).

The canary's namespace is in the mesh as a pod's is: the broker makes listeners there, and the maps have rows for it.
Those are written anew each time, since a configuration that is written to the maps knows nothing of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nodeagent.agent import rhythm
from nodeagent.agent.child import Child, describe_exit, python_module
from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.core import canary
from nodeagent.core.canary import Fate
from nodeagent.kernel.maps import Maps
from nodeagent.kernel.processes import inode_behind
from nodeagent.kernel.syscall import BpfError

log = logging.getLogger(__name__)

MODULE = python_module("nodeagent.kernel.canary")
PERIOD_SECONDS = 5.0
AGAIN_SECONDS = 0.5  # while something is wrong
TRIES = 2  # one connect can meet a worker's end
START_SECONDS = 20.0  # as long as Python may take on a loaded node
ANSWER_SECONDS = 5.0  # the child's own bound is a second for each of two steps
STOP_SECONDS = 2.0
NOT_YET = "no canary connect was made yet"


class Workers(Protocol):
    """The part of the fleet that is used here."""

    def add_pods(self, pods: list[EnrolledPod]) -> None: ...
    def remove_pods(self, pods: list[EnrolledPod]) -> None: ...
    async def wait_settled(self, cookies: set[int], seconds: float) -> bool: ...


@dataclass(slots=True)
class _Running:
    child: Child
    control: socket.socket
    pod: EnrolledPod


class Canary:
    """`problem` is "" while hooks redirect and workers answer; `failures` counts connects that say otherwise."""

    def __init__(self, workers: Workers, maps: Maps, cgroup: Path) -> None:
        """`cgroup`: of the canary alone, below the one that hooks are attached to; made and removed here."""
        self._workers = workers
        self._maps = maps
        self._cgroup = cgroup
        self._running: _Running | None = None
        self._told = ""
        self.problem = NOT_YET
        self.failures = 0

    async def run(self, permitted: asyncio.Event) -> None:
        """Until cancelled.  Nothing is written before `permitted`."""
        await permitted.wait()
        while True:
            self.problem = await self._look()
            await rhythm.beat(AGAIN_SECONDS if self.problem else PERIOD_SECONDS)

    async def _look(self) -> str:
        if self._maps.bypassed():
            return ""  # nothing is redirected, as somebody wishes
        for _ in range(TRIES):
            fate = await self._try()
            if fate is Fate.ANSWERED:
                break
            self.failures += 1
        return canary.problem(fate)

    async def _try(self) -> Fate:
        try:
            if self._running is None:
                self._running = await self._start()
                await self._workers.wait_settled({self._running.pod.cookie}, ANSWER_SECONDS)
            self._maps.write_canary(self._running.pod.cookie)
            return await self._ask(self._running.control)
        except (OSError, BpfError, TimeoutError, ValueError) as error:
            self._tell(f"{type(error).__name__}: {error}")
            await self._end()
            return Fate.UNKNOWN

    def _tell(self, text: str) -> None:
        """Once: it is tried twice a second."""
        if text != self._told:
            log.error("the canary cannot make a connect, so this agent is not ready: %s", text)
        self._told = text

    async def _ask(self, control: socket.socket) -> Fate:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(control, b"?")
        return Fate((await asyncio.wait_for(loop.sock_recv(control, 64), ANSWER_SECONDS)).decode())

    async def _start(self) -> _Running:
        self._cgroup.mkdir(exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        argv = [*MODULE, "--control-fd", str(theirs.fileno()), "--cgroup", str(self._cgroup)]
        with theirs:
            child = Child(argv, [theirs.fileno()], lambda status: log.debug("canary: %s", describe_exit(status)))
        try:
            pod = await asyncio.wait_for(_introduced(ours), START_SECONDS)
        except BaseException:
            ours.close()
            await _stop(child)
            raise
        self._workers.add_pods([pod])
        return _Running(child, ours, pod)

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        self._workers.remove_pods([running.pod])
        with contextlib.suppress(BpfError):  # it may be the very thing that is wrong
            self._maps.delete_canary(running.pod.cookie)
        os.close(running.pod.fd)
        running.control.close()
        await _stop(running.child)

    async def close(self) -> None:
        """Nothing of it is left."""
        await self._end()
        with contextlib.suppress(OSError):  # it was never made
            self._cgroup.rmdir()


async def _introduced(control: socket.socket) -> EnrolledPod:
    """As which pod the child presents itself."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(control, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(control)
    message, fds, _, _ = socket.recv_fds(control, 64, 1)
    if not fds:
        raise OSError("its process ended before it had a network namespace; what it said is above")
    return EnrolledPod(canary.KEY, "", inode_behind(fds[0]), fds[0], int(message), ())


async def _stop(child: Child) -> None:
    """It ends when its control socket is closed; one that hangs is killed."""
    if not await child.wait(STOP_SECONDS):
        child.signal(signal.SIGKILL)
        await child.wait(STOP_SECONDS)
