"""Puts one snapshot in force: namespaces, workers, kernel maps, then the connections that rules newly cover.

The order is what keeps a rule from being passed by: workers know a snapshot before the kernel sends
them connections by it, and direct connections are ended only once new ones already meet the rule.
That last part takes longest and has a task of its own (`settling`), so that the next snapshot need not wait.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nodeagent.agent.bystanders import Bystanders
from nodeagent.agent.enrolment import Changes, EnrolledPod, Enrolment, release
from nodeagent.agent.settling import Connections, Settler, Work
from nodeagent.core.coverage import Coverage, Target, coverage, newly_covered, with_changes
from nodeagent.core.differences import changed, gone
from nodeagent.core.kernel_state import Passing
from nodeagent.core.located import located
from nodeagent.core.model import Snapshot, Workload

log = logging.getLogger(__name__)

# Workers acknowledge in milliseconds; a hung one is killed after 2.4 s, and then nobody waits for it.
SETTLE_SECONDS = 4.0


class Workers(Protocol):
    """The part of the fleet that is used here."""

    def publish(self, snapshot: Snapshot) -> None: ...
    def add_pods(self, pods: list[EnrolledPod]) -> None: ...
    def remove_pods(self, pods: list[EnrolledPod]) -> None: ...
    async def wait_settled(self, cookies: set[int], seconds: float) -> bool: ...
    async def serving_pods(self) -> set[str] | None:
        """Keys of pods that have proxied connections; None: some worker did not say."""


class Kernel(Protocol):
    """The kernel's half of a configuration."""

    def sync(self, snapshot: Snapshot, pods: Collection[EnrolledPod], passing: Passing) -> None: ...
    def known_cookies(self) -> set[int]:
        """Namespaces that the hooks judge already: enrolled before this agent started."""

    def coverage(self, pods: Collection[EnrolledPod]) -> Coverage:
        """What the maps enforce now: how a restarted agent knows which rules are old."""

    def forget(self, pods: Collection[EnrolledPod]) -> None:
        """These left, and nothing will be counted for them any more."""


class DirectConnections(Connections, Protocol):
    """Established connections inside pods' namespaces."""

    def forget(self, pods: Collection[EnrolledPod]) -> None:
        """What was noted of these is not asked for any more."""


@dataclass(slots=True)
class Progress:
    """`compiled` is the newest snapshot's generation, `synced` the newest that the kernel's maps carry.

    `seconds`: from when its change was noticed until `synced` was in force; `since`: Unix time of that moment.
    """

    compiled: int = 0
    synced: int = 0
    seconds: float = 0.0
    since: float = 0.0
    coverage: Coverage | None = None
    errors: list[str] = field(default_factory=list)


class Programmer:
    """One `apply` at a time; the caller serializes."""

    def __init__(
        self,
        workers: Workers,
        kernel: Kernel,
        connections: DirectConnections,
        enrolment: Enrolment,
        bystanders: Bystanders,
        permitted: Callable[[], Awaitable[object]],
    ) -> None:
        """`permitted` returns once maps may be written: at once, or when a takeover got its lease."""
        self._permitted = permitted
        self._workers = workers
        self._kernel = kernel
        self._connections = connections
        self._enrolment = enrolment
        self._bystanders = bystanders
        self._leaving: dict[int, EnrolledPod] = {}  # by cookie: not enrolled any more, with connections that go on
        self._idle: set[int] = set()  # of these, those without a connection at the last look
        self._pending = Changes()  # of pods, not in the maps yet: an `apply` that failed leaves them to the next
        self._covered: tuple[Snapshot, list[Workload], Coverage] | None = None  # what it was last made of
        self.settler = Settler(connections, self._forget)
        self.progress = Progress()

    async def apply(self, snapshot: Snapshot) -> None:
        progress = self.progress
        progress.compiled = snapshot.generation
        enrolled_before = self._kernel.known_cookies()
        changes = await self._take_changes(snapshot)
        snapshot = located(snapshot, {pod.key: pod.addresses for pod in self._enrolment.pods.values()})
        self._workers.publish(snapshot)
        if not await self._workers.wait_settled({pod.cookie for pod in changes.added}, SETTLE_SECONDS):
            log.warning("generation %d: not every worker acknowledged it in time", snapshot.generation)
        await self._permitted()
        covered = self._sync(snapshot)
        self._pending = Changes()
        work = self._work(snapshot, covered, changes, enrolled_before)
        work.removed = self._part_with(changes.removed)
        self.settler.submit(work)
        if not progress.synced:
            await self.settler.attempted()  # who waits for us to be ready finds old connections listed
        progress.synced = snapshot.generation
        progress.errors = []

    async def _take_changes(self, snapshot: Snapshot) -> Changes:
        """Pods that came or left since the maps were last written; the workers hear of the new ones."""
        changes = await self._enrolment.update(snapshot.workloads)
        await self._bystanders.update(snapshot.workloads, changes.removed)
        self._pending = self._pending.then(changes)
        if changes.added:
            self._workers.add_pods(changes.added)
        return self._pending

    def _part_with(self, removed: Collection[EnrolledPod]) -> list[EnrolledPod]:
        """Workers forget pods that are gone, which are returned; one that still runs keeps its listeners for a while.

        Its proxied connections go on, with the policies of their requests.
        """
        stay = self._bystanders.namespaces.keys()
        over = [self._leaving.pop(cookie) for cookie in list(self._leaving) if cookie not in stay]
        gone = [pod for pod in removed if pod.cookie not in stay]
        self._leaving |= {pod.cookie: pod for pod in removed if pod.cookie in stay}
        if over or gone:
            self._workers.remove_pods([*over, *gone])
        return [*over, *gone]

    async def let_go(self) -> None:
        """Of pods that left the mesh and run on: those that had no proxied connection twice in a row.

        Twice, because one that was redirected just before may not have been accepted yet.
        """
        if not self._leaving:
            return
        waiting = dict(self._leaving)
        busy = await self._workers.serving_pods()
        if busy is None:
            return
        idle = {cookie for cookie, pod in waiting.items() if pod.key not in busy}
        over = [pod for cookie, pod in waiting.items() if cookie in idle & self._idle and self._is_leaving(pod)]
        self._idle = idle
        for pod in over:
            del self._leaving[pod.cookie]
        self._workers.remove_pods(over)
        release(over)

    def _is_leaving(self, pod: EnrolledPod) -> bool:
        return self._leaving.get(pod.cookie) is pod

    def errors(self) -> list[str]:
        """Why the newest snapshot is not wholly in force."""
        return self.progress.errors + ([self.settler.error] if self.settler.error else [])

    def failed(self, snapshot: Snapshot, error: Exception) -> None:
        """The kernel's maps did not take all of it: what they hold stays in force, and it is tried again."""
        text = (
            f"generation {snapshot.generation} is not wholly in force: {error}. What was in force before still is "
            "wherever nothing new was written; it is tried again every second. `nodeagent bpf maps` shows the full one"
        )
        if text not in self.progress.errors:
            log.error("%s", text)
        self.progress.errors = [text]

    def _sync(self, snapshot: Snapshot) -> dict[str, frozenset[Target]]:
        """Write the maps; returns what is newly covered, per pod."""
        pods = list(self._enrolment.pods.values())
        before = self.progress.coverage
        if before is None:
            before = self._kernel.coverage(pods)
        now = self._coverage(snapshot, [snapshot.workloads[pod.key] for pod in pods])
        self._kernel.sync(snapshot, pods, self._bystanders.namespaces)
        self.progress.coverage = now
        return newly_covered(before, now, self._enrolment.pods)

    def _coverage(self, snapshot: Snapshot, pods: list[Workload]) -> Coverage:
        """Made anew when pods changed, else from what changed since it was made last."""
        last = self._covered
        if last is None or last[1] != pods:
            now = coverage(snapshot, pods)
        else:
            before, there = last[0].destinations, snapshot.destinations
            now = with_changes(last[2], changed(before, there), gone(before, there), pods)
        self._covered = snapshot, pods, now
        return now

    def _work(
        self,
        snapshot: Snapshot,
        covered: Mapping[str, frozenset[Target]],
        changes: Changes,
        enrolled_before: set[int],
    ) -> Work:
        """End what rules newly cover; list what is older than its pod's enrolment."""
        added = {pod.key for pod in changes.added}
        new = [pod for pod in changes.added if pod.cookie not in enrolled_before]
        old = {
            self._enrolment.pods[key]: targets
            for key, targets in covered.items()
            if key not in added or self._enrolment.pods[key].cookie in enrolled_before
        }
        cut = {pod.key for pod in new if snapshot.workloads[pod.key].cut_unpoliced}
        held = self._enrolment.by_cookie()
        left = [pod for pod in changes.removed if pod.cookie not in held]
        return Work(new, cut, old, snapshot.destinations, left=left)

    def _forget(self, pods: Collection[EnrolledPod]) -> None:
        self._connections.forget(pods)
        self._kernel.forget(pods)
