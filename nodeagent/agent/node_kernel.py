"""The agent's ports to the kernel side: maps, and namespaces by way of the netlink child."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from nodeagent.agent.enrolment import EnrolledPod, fd_path
from nodeagent.agent.netns_child import LingeringChild
from nodeagent.core.coverage import Coverage
from nodeagent.core.kernel_plan import Tables
from nodeagent.core.kernel_state import DestFlag, LocalPod, Passing
from nodeagent.core.model import Snapshot, Workload
from nodeagent.core.unclassified import Unclassified, refusals
from nodeagent.kernel import cgroups, netns
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.maps import Guard, Maps
from nodeagent.kernel.sync import KernelSync, read_tables


class MapKernel:
    """Implements programming.Kernel.  Opens the maps at first use: in a takeover they are another's until then."""

    def __init__(self, maps: Maps, guard: Callable[[Snapshot], Guard] = lambda _snapshot: Guard()) -> None:
        """`guard`: what pods that are not classified get under a configuration."""
        self._maps = maps
        self._guard = guard
        self._sync: KernelSync | None = None
        self._workloads: dict[str, Workload] = {}  # pods that were synced and not forgotten, by key
        self._current: set[str] = set()
        self._enrolled: set[int] | None = None
        self._guarded: Guard | None = None  # as it was written

    def sync(self, snapshot: Snapshot, pods: Collection[EnrolledPod], passing: Passing) -> None:
        """BpfError if a map is full; what was written is consistent."""
        if self._sync is None:
            self._sync = KernelSync(self._maps)
        self._current = {pod.key for pod in pods}
        self._workloads.update({key: snapshot.workloads[key] for key in self._current})
        self._enrolled = None  # if it fails half way, only the maps tell
        self._sync.sync(snapshot, {pod.key: LocalPod(pod.cookie, pod.addresses) for pod in pods}, passing)
        self._write_guard(self._guard(snapshot))  # after those that it does not mean
        self._enrolled = {pod.cookie for pod in pods}

    def _write_guard(self, guard: Guard) -> None:
        if guard != self._guarded:
            self._maps.write_guard(guard)
            self._guarded = guard

    def collect(self, now: float) -> None:
        """Delete what nothing has referred to for a while; call every second or so."""
        if self._sync is not None:
            self._sync.collect(now)

    def known_cookies(self) -> set[int]:
        if self._enrolled is None:
            self._enrolled = {cookie for cookie, pod in read_tables(self._maps).pods.items() if not pod.passes}
        return self._enrolled

    def coverage(self, pods: Collection[EnrolledPod]) -> Coverage:
        return covered_by(read_tables(self._maps), pods)

    def count(self, outcome: Outcome, pod: str, count: int) -> None:
        """Add to a pod's workload's counter; only after its first `sync`, and also when it has just left."""
        if self._sync is not None:
            self._sync.count(self._workloads[pod], outcome, count)

    def forget(self, pods: Collection[EnrolledPod]) -> None:
        """Nothing is counted for these any more; a pod that came back under the same key stays."""
        for pod in pods:
            if pod.key not in self._current:
                self._workloads.pop(pod.key, None)


def covered_by(tables: Tables, pods: Collection[EnrolledPod]) -> Coverage:
    """What the maps enforce: destinations whose requests are judged or refused, and denials per pod.

    At a frontend the flag ENFORCE does not tell a rule for everyone from a route of some callers that leads to what a
    rule protects, and both count as the former here. Connections that went direct do not depend on it: they are to
    an endpoint, which has no routes, so there the flag is exact. To a frontend's own address lead only connections
    older than the enrolment or the Service, or made under `bypass on`, and a restart is no reason to end these:
    were the flag read as "nobody", each of them would be, wherever a route is guarded.
    """
    enforced = DestFlag.ENFORCE | DestFlag.REFUSE
    everyone = frozenset(target for target, row in tables.destinations.items() if row.flags & enforced)
    denied = {}
    for pod in pods:
        entry = tables.pods.get(pod.cookie)
        if entry is not None and not entry.passes:
            denied[pod.key] = frozenset(
                target
                for target, row in tables.destinations.items()
                if (verdict := tables.verdict_tables.get(row.policy, {}).get(entry.pod)) is not None and verdict.denied
            )
    return Coverage(everyone, denied)


class ChildDiag:
    """Implements netns_connections.Diag."""

    def __init__(self, child: LingeringChild) -> None:
        self._child = child

    async def established(self, pods: Collection[EnrolledPod]) -> dict[str, list[netns.Connection]]:
        paths = {fd_path(pod.fd): pod.key for pod in pods}
        if not paths:
            return {}
        listed = await self._child.ask(netns.CONNECTIONS, lambda child: child.established(list(paths)))
        return {paths[path]: connections for path, connections in listed.items()}

    async def destroy(self, pod: EnrolledPod, connections: Collection[netns.Connection]) -> int:
        return await self._child.ask(
            netns.CONNECTIONS, lambda child: child.destroy(fd_path(pod.fd), connections)
        )


def guard(kubepods: Path | None, unclassified: Unclassified, workloads: Iterable[Workload]) -> Guard:
    """What the hooks do with pods that are not classified yet."""
    if kubepods is None:
        return Guard()
    wanted = refusals(unclassified, workloads)
    try:
        return Guard(cgroups.cgroup_id(kubepods), wanted.refuse, wanted.away)
    except FileNotFoundError:
        return Guard()  # the kubelet's cgroups are gone, and all pods with them
