"""From workloads that want the mesh to namespaces we hold: netns path -> descriptor, cookie, addresses.

A pod's identity is its namespace's cookie, which the pod cannot forge; the cookie and the pod's
own addresses are read inside the namespace by the netlink child.  We hold a descriptor so that
what was inspected is what the broker enters, even if the path is re-used meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nodeagent.core.model import Workload
from nodeagent.kernel.netns import NamespaceInfo


@dataclass(frozen=True, slots=True)
class EnrolledPod:
    key: str  # "namespace/name"
    path: str
    inode: tuple[int, int]  # (st_dev, st_ino): a path that changed its inode is another namespace
    fd: int
    cookie: int
    addresses: tuple[str, ...]


@dataclass(slots=True)
class Changes:
    added: list[EnrolledPod] = field(default_factory=list)
    removed: list[EnrolledPod] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


Inspect = Callable[[list[str]], Awaitable[dict[str, NamespaceInfo]]]


def wanted(workloads: Mapping[str, Workload]) -> dict[str, str]:
    """Pods of this node that are enrolled: key -> netns path."""
    return {key: pod.netns for key, pod in workloads.items() if pod.enrolled and pod.netns}


def inode_of(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def fd_path(fd: int) -> str:
    """A path that any root process can open, and that names exactly the namespace behind `fd`."""
    return f"/proc/{os.getpid()}/fd/{fd}"


class Enrolment:
    """The pods held now.  `problems` says for each pod that should be enrolled why it is not."""

    def __init__(self, inspect: Inspect) -> None:
        self._inspect = inspect
        self.pods: dict[str, EnrolledPod] = {}
        self.problems: dict[str, str] = {}

    def by_cookie(self) -> dict[int, str]:
        return {pod.cookie: pod.key for pod in self.pods.values()}

    def is_current(self, workloads: Mapping[str, Workload]) -> bool:
        """False when `update` would change something: cheap (one stat per pod), for polling."""
        targets = wanted(workloads)
        if any(not self._still_valid(pod, targets) for pod in self.pods.values()):
            return False
        return all(key in self.pods or inode_of(path) is None for key, path in targets.items())

    def _still_valid(self, pod: EnrolledPod, targets: Mapping[str, str]) -> bool:
        return targets.get(pod.key) == pod.path and inode_of(pod.path) == pod.inode

    async def update(self, workloads: Mapping[str, Workload]) -> Changes:
        """Drop pods that are gone, inspect and take in new ones; removed pods' descriptors are closed by `release`."""
        targets = wanted(workloads)
        changes = Changes()
        for pod in list(self.pods.values()):
            if not self._still_valid(pod, targets):
                changes.removed.append(self.pods.pop(pod.key))
        missing = {key: path for key, path in targets.items() if key not in self.pods}
        self.problems = {}
        changes.added = await self._take_in(missing)
        return changes

    async def _take_in(self, missing: Mapping[str, str]) -> list[EnrolledPod]:
        opened = self._open(missing)
        if not opened:
            return []
        seen = await self._inspect([fd_path(fd) for fd in opened.values()])
        added = []
        for key, fd in opened.items():
            pod = self._accept(key, missing[key], fd, seen[fd_path(fd)])
            if pod is None:
                os.close(fd)
            else:
                self.pods[key] = pod
                added.append(pod)
        return added

    def _open(self, missing: Mapping[str, str]) -> dict[str, int]:
        opened = {}
        for key, path in sorted(missing.items()):
            try:
                opened[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                self.problems[key] = f"network namespace {path}: {error.strerror}; it is looked for again every second"
        return opened

    def _accept(self, key: str, path: str, fd: int, seen: NamespaceInfo) -> EnrolledPod | None:
        if seen.error:
            self.problems[key] = f"network namespace {path}: {seen.error}"
            return None
        owner = self.by_cookie().get(seen.cookie)
        if owner is not None:
            self.problems[key] = f"network namespace {path} already belongs to pod {owner}; give each pod its own"
            return None
        status = os.fstat(fd)
        return EnrolledPod(key, path, (status.st_dev, status.st_ino), fd, seen.cookie, seen.addresses)


def release(pods: Iterable[EnrolledPod]) -> None:
    """Close the descriptors of pods that nobody refers to any more: an open one keeps a dead namespace alive."""
    for pod in pods:
        os.close(pod.fd)
