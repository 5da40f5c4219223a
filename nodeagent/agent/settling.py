"""After a snapshot is in force: ends direct connections that its rules newly cover, lists those older than enrolment.

Looking into namespaces takes a child process and some 0.1 s, which the next change must not wait for: so it
is a task of its own.  Work is done in the order it came; what came while one was under way is done together.

Where endpoints come all the time, so does what is covered for the first time, and the kernel walks the host's whole
table of connections for each pod: 2 ms.  So between two such looks there is a pause that is longer than the look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nodeagent.agent.enrolment import EnrolledPod, release
from nodeagent.core.coverage import Target
from nodeagent.kernel.netns import NetlinkError

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
SHARE = 0.2  # of a processor, for looks at what is covered
LONGEST_PAUSE = 1.0  # seconds: so long a connection may go on beside a rule that is in force


def pause_after(seconds: float) -> float:
    """After a look that took so long."""
    return min(LONGEST_PAUSE, seconds * (1 / SHARE - 1))


class Connections(Protocol):
    """Established connections inside pods' namespaces."""

    async def end_covered(self, targets: Mapping[EnrolledPod, frozenset[Target]], known: Collection[Target]) -> int:
        """How many were ended."""

    async def note_unpoliced(self, pods: Collection[EnrolledPod], cut: Collection[str]) -> int:
        """Remember and count connections older than their pod's enrolment; `cut` are keys of pods to end them in."""


@dataclass(slots=True)
class Work:
    """What one or more snapshots leave to do."""

    new: list[EnrolledPod] = field(default_factory=list)  # enrolled now for the first time
    cut: set[str] = field(default_factory=set)  # keys of those whose old connections are to end
    covered: dict[EnrolledPod, frozenset[Target]] = field(default_factory=dict)
    known: Collection[Target] = ()  # all destinations of the newest snapshot
    removed: list[EnrolledPod] = field(default_factory=list)  # their descriptors are to be closed
    left: list[EnrolledPod] = field(default_factory=list)  # those of them whose namespace is in the mesh no more

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.new or self.covered or self.removed or self.left)

    def add(self, later: Work) -> None:
        self.known = later.known
        if not later:
            return
        self.new += later.new
        self.cut |= later.cut
        for pod, targets in later.covered.items():
            self.covered[pod] = self.covered.get(pod, frozenset()) | targets
        self.removed += later.removed
        self.left += later.left
        self._leave_out_removed()

    def _leave_out_removed(self) -> None:
        """Connections of pods that left the mesh meanwhile are nobody's business any more."""
        gone = {pod.fd for pod in (*self.removed, *self.left)}
        self.new = [pod for pod in self.new if pod.fd not in gone]
        self.covered = {pod: targets for pod, targets in self.covered.items() if pod.fd not in gone}


class Settler:
    """`submit` from the loop; `run` does the work until cancelled.  `error` says why it is behind, "" = it is not."""

    def __init__(self, connections: Connections, forget: Callable[[Collection[EnrolledPod]], None]) -> None:
        """`forget` is told the pods that left, once nothing here concerns them any more."""
        self._connections = connections
        self._forget = forget
        self._waiting = Work()
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.error = ""
        self.errors = 0

    def submit(self, work: Work) -> None:
        self._waiting.add(work)
        if work:
            self._idle.clear()
            self._woken.set()

    async def attempted(self) -> None:
        """Return once all that was submitted is done, or failed a first time."""
        await self._idle.wait()

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            began, work = time.monotonic(), self._take_waiting()
            looks = bool(work.covered)
            await self._finish(work)
            if not self._woken.is_set():
                self._idle.set()
            if looks:
                await self._pause(pause_after(time.monotonic() - began))

    async def _pause(self, seconds: float) -> None:
        """Unless a pod is new: its old connections are told of at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._waiting.new:
                    self._woken.clear()
                    await self._woken.wait()
        if self._waiting:
            self._woken.set()

    async def _finish(self, work: Work) -> None:
        """Until it is done: a rule is not wholly in force while a connection that it covers goes on."""
        while True:
            try:
                await self._attempt(work)
            except (NetlinkError, OSError) as error:
                self._failed(error)
                await asyncio.sleep(RETRY_SECONDS)
                work.add(self._take_waiting())
            else:
                self.error = ""
                return

    def _take_waiting(self) -> Work:
        self._woken.clear()
        waiting, self._waiting = self._waiting, Work(known=self._waiting.known)
        return waiting

    async def _attempt(self, work: Work) -> None:
        """Each step that succeeded is struck off, so that a second attempt counts nothing twice."""
        self._forget(work.left)
        work.left = []
        if work.new:
            await self._connections.note_unpoliced(work.new, work.cut)
            work.new, work.cut = [], set()
        if work.covered:
            await self._connections.end_covered(work.covered, work.known)
            work.covered = {}
        release(work.removed)
        work.removed = []

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        text = (
            f"established connections cannot be looked at: {error}. Those that a new rule covers go on unjudged; it is "
            "tried again every second"
        )
        if text != self.error:
            log.error("%s", text)
        self.error = text
        self._idle.set()
