"""From workloads that want the mesh to namespaces we hold: netns path -> descriptor, cookie, addresses.

A manifest can say where a pod's namespace is; of an API server's pods, the finder knows it (`pod_finder`).

A pod's identity is its namespace's cookie, which the pod cannot forge; the cookie and the pod's
own addresses are read inside the namespace by the netlink child.  We hold a descriptor so that
what was inspected is what the broker enters, even if the path is re-used meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from nodeagent.core.differences import Selection
from nodeagent.core.model import Workload
from nodeagent.kernel.bpf import filesystem_magic
from nodeagent.kernel.netns import NamespaceInfo, NetlinkError

log = logging.getLogger(__name__)

Inode = tuple[int, int]  # (st_dev, st_ino)

# A pod that was refused is looked at again when its path names another namespace, or after so long: each look
# compiles and applies the whole configuration once more.
REFUSED_SECONDS = 30.0
# The same when the fault is ours: the child that looks into namespaces failed.
FAILED_SECONDS = 5.0
NSFS_MAGIC = 0x6E736673


@dataclass(frozen=True, slots=True)
class EnrolledPod:
    key: str  # "namespace/name"
    path: str
    inode: Inode  # a path that changed its inode is another namespace
    fd: int
    cookie: int
    addresses: tuple[str, ...]


@dataclass(slots=True)
class Changes:
    added: list[EnrolledPod] = field(default_factory=list)
    removed: list[EnrolledPod] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)

    def then(self, later: Changes) -> Changes:
        """Both as one, as seen at the end: what came and left again was never there."""
        left = {pod.fd for pod in later.removed}
        added = [pod for pod in self.added if pod.fd not in left]
        return Changes(added + later.added, self.removed + later.removed)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pod that was not taken in, and until when the same namespace is not tried again."""

    path: str
    inode: Inode | None
    until: float
    why: str
    ours: bool = False  # we failed, not the pod


Inspect = Callable[[list[str]], Awaitable[dict[str, NamespaceInfo]]]


class Found(Protocol):
    """Namespaces that were found, by their pod's UID."""

    def paths(self) -> Mapping[str, str]:
        """Each names exactly one namespace, as long as that is the pod's."""

    @property
    def refused(self) -> Mapping[str, str]:
        """Why no namespace is taken for this pod's."""


class NothingFound:
    """Where pods come from manifests only."""

    refused: Mapping[str, str] = {}

    def paths(self) -> Mapping[str, str]:
        return {}


def wanted(workloads: Mapping[str, Workload], found: Mapping[str, str]) -> dict[str, str]:
    """Pods of this node that are enrolled and have a namespace: key -> netns path."""
    places = {key: pod.netns or found.get(pod.uid) for key, pod in workloads.items() if pod.enrolled}
    return {key: path for key, path in places.items() if path}


def inode_behind(fd: int) -> Inode:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def inode_of(path: str) -> Inode | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def fd_path(fd: int) -> str:
    """A path that any root process can open, and that names exactly the namespace behind `fd`."""
    return f"/proc/{os.getpid()}/fd/{fd}"


def named(path: str) -> str:
    """A namespace in words: a descriptor of ours says nothing to a reader."""
    return "network namespace" if path.startswith("/proc/") else f"network namespace {path}"


def open_namespace(path: str) -> int:
    """A descriptor of the namespace at `path`, which is what someone wrote into a manifest: OSError if it is no such.

    It is looked at before it is opened: to open a FIFO could wait for ever, to open a device can have an effect.
    """
    looked_at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        itself = f"/proc/self/fd/{looked_at}"
        if filesystem_magic(Path(itself)) != NSFS_MAGIC:
            raise OSError(errno.EINVAL, "it is a file of another kind, no network namespace (`ip netns add` makes one)")
        return os.open(itself, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(looked_at)


class Enrolment:
    """The pods held now.  `problems` says for each pod that should be enrolled why it is not."""

    def __init__(
        self,
        inspect: Inspect,
        clock: Callable[[], float] = time.monotonic,
        open_path: Callable[[str], int] = open_namespace,
        found: Found | None = None,
    ) -> None:
        self._inspect = inspect
        self._found = found or NothingFound()
        self._clock = clock
        self._open_path = open_path
        self._here: Selection[str, Workload] = Selection(lambda workload: workload.is_here)
        self._refused: dict[str, Refusal] = {}
        self._unopened: dict[str, str] = {}
        self._not_found: dict[str, str] = {}
        self.pods: dict[str, EnrolledPod] = {}
        self.failing = ""  # a pod that is not held by our own fault, and why; "" = there is none

    @property
    def problems(self) -> dict[str, str]:
        return {**self._not_found, **self._unopened, **{key: refusal.why for key, refusal in self._refused.items()}}

    def by_cookie(self) -> dict[int, str]:
        return {pod.cookie: pod.key for pod in self.pods.values()}

    def is_current(self, workloads: Mapping[str, Workload]) -> bool:
        """False when `update` would change something: cheap (one stat per pod), for polling."""
        targets = wanted(self._here.of(workloads), self._found.paths())
        if any(not self._still_valid(pod, targets) for pod in self.pods.values()):
            return False
        return all(key in self.pods or not self._worth_a_look(key, path) for key, path in targets.items())

    def _worth_a_look(self, key: str, path: str) -> bool:
        inode = inode_of(path)
        return inode is not None and not self._waits(key, path, inode)

    def _waits(self, key: str, path: str, inode: Inode | None) -> bool:
        refusal = self._refused.get(key)
        return refusal is not None and (refusal.path, refusal.inode) == (path, inode) and self._clock() < refusal.until

    def _still_valid(self, pod: EnrolledPod, targets: Mapping[str, str]) -> bool:
        return targets.get(pod.key) == pod.path and inode_of(pod.path) == pod.inode

    async def update(self, workloads: Mapping[str, Workload]) -> Changes:
        """Drop pods that are gone, inspect and take in new ones; removed pods' descriptors are closed by `release`."""
        targets = wanted(self._here.of(workloads), self._found.paths())
        self._not_found = self._refused_by_finder(workloads)
        changes = Changes()
        for pod in list(self.pods.values()):
            if not self._still_valid(pod, targets):
                changes.removed.append(self.pods.pop(pod.key))
        if changes.removed:
            self._refused.clear()  # one may have been refused because of a pod that is gone now
        missing = {key: path for key, path in targets.items() if key not in self.pods}
        self._refused = {key: refusal for key, refusal in self._refused.items() if self._still_refused(key, missing)}
        changes.added = await self._take_in({key: path for key, path in missing.items() if key not in self._refused})
        failed = [f"pod {key}: {refusal.why}" for key, refusal in self._refused.items() if refusal.ours]
        self.failing = failed[0] if failed else ""
        return changes

    def _refused_by_finder(self, workloads: Mapping[str, Workload]) -> dict[str, str]:
        refused = self._found.refused
        here = self._here.of(workloads)
        pods = {key: pod for key, pod in here.items() if pod.enrolled and pod.uid in refused and not pod.netns}
        return {key: refused[pod.uid] for key, pod in pods.items()}

    def _still_refused(self, key: str, missing: Mapping[str, str]) -> bool:
        return key in missing and self._waits(key, missing[key], inode_of(missing[key]))

    async def _take_in(self, missing: Mapping[str, str]) -> list[EnrolledPod]:
        opened = self._open(missing)
        if not opened:
            return []
        try:
            seen = await self._inspect([fd_path(fd) for fd in opened.values()])
        except (NetlinkError, OSError) as error:
            return self._give_up(missing, opened, error)
        added = []
        for key, fd in opened.items():
            pod = self._accept(key, missing[key], fd, seen[fd_path(fd)])
            if pod is None:
                os.close(fd)
            else:
                self.pods[key] = pod
                added.append(pod)
        return added

    def _give_up(self, missing: Mapping[str, str], opened: Mapping[str, int], error: Exception) -> list[EnrolledPod]:
        """We could not look: that is no pod's fault, and no reason to leave the rest of the configuration unapplied."""
        log.error("%d pods cannot be enrolled, their rules are not in force yet: %s", len(opened), error)
        for key, fd in opened.items():
            self._refuse(key, missing[key], inode_behind(fd), str(error), FAILED_SECONDS)
            self._refused[key] = replace(self._refused[key], ours=True)
            os.close(fd)
        return []

    def _refuse(self, key: str, path: str, inode: Inode | None, why: str, seconds: float = REFUSED_SECONDS) -> None:
        text = f"{named(path)}: {why}; tried again when it changes, or after {seconds:.0f} s"
        self._refused[key] = Refusal(path, inode, self._clock() + seconds, text)

    def _open(self, missing: Mapping[str, str]) -> dict[str, int]:
        opened = {}
        self._unopened = {}
        for key, path in sorted(missing.items()):
            try:
                opened[key] = self._open_path(path)
            except OSError as error:
                inode = inode_of(path)
                if inode is not None:
                    self._refuse(key, path, inode, str(error.strerror))
                else:
                    text = f"{named(path)}: {error.strerror}; it is looked for again every second"
                    self._unopened[key] = text
        return opened

    def _accept(self, key: str, path: str, fd: int, seen: NamespaceInfo) -> EnrolledPod | None:
        if seen.error:
            self._refuse(key, path, inode_behind(fd), seen.error)
            return None
        owner = self.by_cookie().get(seen.cookie)
        if owner is not None:
            self._refuse(key, path, inode_behind(fd), f"already belongs to pod {owner}, give each pod its own")
            return None
        return EnrolledPod(key, path, inode_behind(fd), fd, seen.cookie, seen.addresses)


def release(pods: Iterable[EnrolledPod]) -> None:
    """Close the descriptors of pods that nobody refers to any more: an open one keeps a dead namespace alive."""
    for pod in pods:
        os.close(pod.fd)
