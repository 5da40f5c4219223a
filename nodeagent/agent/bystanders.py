"""Namespaces of this node that are known and left alone: pods that are not enrolled, static pods, the node's own.

The hooks take whoever is none of these, and not enrolled, for a pod that nobody has classified yet.  A pod that was
enrolled until now is one of these at once: what is proxied for it goes on, and new connections go direct.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from nodeagent.agent.enrolment import FAILED_SECONDS, EnrolledPod, Found, Inode, Inspect, NothingFound, inode_of
from nodeagent.core.differences import Selection
from nodeagent.core.model import Workload
from nodeagent.core.pod_cgroup import is_static
from nodeagent.kernel.netns import NamespaceInfo, NetlinkError

log = logging.getLogger(__name__)


class FoundOnNode(Found, Protocol):
    def node_paths(self) -> Collection[str]:
        """The node's own namespaces."""


class NothingOnNode(NothingFound):
    def node_paths(self) -> Collection[str]:
        return ()


@dataclass(frozen=True, slots=True)
class Place:
    path: str
    addresses: tuple[str, ...] = ()  # that the configuration says


class Bystanders:
    """`namespaces`: cookie -> addresses, as the last `update` saw it."""

    def __init__(
        self,
        inspect: Inspect,
        found: FoundOnNode | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inspect = inspect
        self._found = found or NothingOnNode()
        self._clock = clock
        self._here: Selection[str, Workload] = Selection(lambda workload: workload.is_here)
        self._left: dict[str, EnrolledPod] = {}  # by key: enrolled once, and still there
        self._known: dict[Inode, NamespaceInfo] = {}
        self._not_before = 0.0
        self.namespaces: dict[int, tuple[str, ...]] = {}

    @property
    def failing(self) -> bool:
        """Some could not be looked into, by our own fault: `update` is to be called again after a while."""
        return self._not_before > 0

    def is_current(self, workloads: Mapping[str, Workload]) -> bool:
        """False when `update` would change something."""
        return self._clock() < self._not_before or self._places(workloads).keys() == self._known.keys()

    async def update(self, workloads: Mapping[str, Workload], left: Iterable[EnrolledPod] = ()) -> None:
        """`left` are pods that were enrolled until now: these need no look."""
        for pod in left:
            self._left[pod.key] = pod
            self._known[pod.inode] = NamespaceInfo(pod.cookie, pod.addresses)
        places = self._places(workloads)
        await self._look([place.path for inode, place in places.items() if inode not in self._known])
        self._known = {inode: info for inode, info in self._known.items() if inode in places}
        self.namespaces = {
            info.cookie: (*places[inode].addresses, *info.addresses)
            for inode, info in self._known.items()
            if not info.error
        }

    def _places(self, workloads: Mapping[str, Workload]) -> dict[Inode, Place]:
        self._left = {key: pod for key, pod in self._left.items() if _stays(pod, workloads.get(key))}
        places = [*self._found_places(workloads), *self._left_places(workloads)]
        return {inode: place for place in places if (inode := inode_of(place.path)) is not None}

    def _found_places(self, workloads: Mapping[str, Workload]) -> Iterator[Place]:
        pods = {pod.uid: pod for pod in self._here.of(workloads).values() if pod.uid}
        for uid, path in self._found.paths().items():
            pod = pods.get(uid)
            if pod is not None and not pod.enrolled:
                yield Place(path, pod.addresses)
            elif is_static(uid):
                yield Place(path)
        for path in self._found.node_paths():
            yield Place(path)

    def _left_places(self, workloads: Mapping[str, Workload]) -> Iterator[Place]:
        for key, pod in self._left.items():
            yield Place(pod.path, workloads[key].addresses)

    async def _look(self, paths: list[str]) -> None:
        """One that cannot be looked into stays unclassified, and is not asked about again."""
        self._not_before = 0.0
        if not paths:
            return
        try:
            seen = await self._inspect(paths)
        except (NetlinkError, OSError) as error:
            self._not_before = self._clock() + FAILED_SECONDS
            log.error("%d namespaces cannot be looked into, and stay unclassified: %s", len(paths), error)
            return
        for path, info in seen.items():
            inode = inode_of(path)
            if inode is not None:
                self._known[inode] = info


def _stays(pod: EnrolledPod, workload: Workload | None) -> bool:
    """It is the same pod, in the same namespace, and not enrolled."""
    return workload is not None and not workload.enrolled and inode_of(pod.path) == pod.inode
