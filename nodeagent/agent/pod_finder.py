"""The pods that run on this node and the network namespace of each, from the kubelet's cgroups: no CNI plugin.

A pod's cgroup is there before its first container starts, and inotify tells of it; what is in it is looked at every
few milliseconds until the sandbox is in its namespace.  A slow scan finds what inotify did not tell (a sandbox that
died, a limit of watches).  `sandboxes` are what was found, one namespace to one pod; `refused` says why one is not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nodeagent.agent.enrolment import fd_path
from nodeagent.agent.rhythm import until_beat
from nodeagent.agent.sandbox import NodeNamespaces, Sandbox, SandboxError, find
from nodeagent.kernel import kubepods
from nodeagent.kernel.inotify import DirectoryWatch
from nodeagent.kernel.kubepods import Listing, PodDirectory

log = logging.getLogger(__name__)

SCAN_SECONDS = 1.0
QUIET_SECONDS = 5.0  # where inotify watches everything and every pod is settled
# How long after an event a pod without a sandbox is looked at again every so many seconds.
YOUNG_SECONDS = 5.0
QUICK_SECONDS = 0.005
# A process joins the pod's cgroup before it leaves the node's namespace: milliseconds.
JOINING_SECONDS = 3.0
MOST_PODS = 1024
LOOKS = 8  # between two turns of the event loop: about 3 ms
LISTINGS = 4  # one after the other, while there are new directories


@dataclass(slots=True)
class Waiting:
    """A pod without a namespace: since when, and until when it is looked at often."""

    pod: PodDirectory
    since: float
    young: float


class PodFinder:
    """`top`: the cgroup in which `kubepods` is looked for; or `kubepods` itself is given."""

    def __init__(self, top: Path, given: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._top = top
        self._given = given
        self._clock = clock
        self._node = NodeNamespaces()
        self._watch = _watch()
        self._is_watched = False  # wherever pods can come and go
        self._listed: dict[str, PodDirectory] = {}
        self._to_look: list[PodDirectory] = []
        self._coming: Callable[[], None] = lambda: None
        self.kubepods: Path | None = None
        self.sandboxes: dict[str, Sandbox] = {}
        self.refused: dict[str, str] = {}
        self.waiting: dict[str, Waiting] = {}

    # ---- answers ----

    def paths(self) -> dict[str, str]:
        """Pod UID -> a path that names exactly its namespace."""
        return {uid: fd_path(sandbox.namespace) for uid, sandbox in self.sandboxes.items()}

    def node_paths(self) -> list[str]:
        """The same of the node's own namespaces, where there are pods to be told from it."""
        if self.kubepods is None:
            return []
        return [fd_path(namespace) for namespace in self._node.descriptors.values()]

    # ---- work ----

    async def run(self, changed: Callable[[], None], coming: Callable[[], None] = lambda: None) -> None:
        """Until cancelled; `changed` is called after `sandboxes` or `refused` changed, `coming` when more are near."""
        self._coming = coming
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        if self._watch is not None:
            loop.add_reader(self._watch.fileno(), woken.set)
        try:
            while True:
                await self.scan(changed)
                await self._quick_looks(woken, changed)
        finally:
            if self._watch is not None:
                loop.remove_reader(self._watch.fileno())

    async def scan(self, changed: Callable[[], None] = lambda: None) -> None:
        """One look at every pod that has no living sandbox yet."""
        if self.list_pods():
            changed()
        while self._to_look:
            if self.look(LOOKS):
                changed()
            await asyncio.sleep(0)

    async def _quick_looks(self, woken: asyncio.Event, changed: Callable[[], None]) -> None:
        """Until something happens in a watched directory, or the next scan is due."""
        now = self._clock()
        due = now + until_beat(self._pause(), now)
        woken.clear()
        while self._clock() < due:
            young = [waiting.pod for waiting in self.waiting.values() if self._clock() < waiting.young]
            try:
                await asyncio.wait_for(woken.wait(), QUICK_SECONDS if young else due - self._clock())
            except TimeoutError:
                self._to_look = young
                if self.look(LOOKS):
                    changed()
            else:
                return

    def _pause(self) -> float:
        """Seconds until the next scan, if nothing happens."""
        unsettled = self.waiting.keys() - self.refused.keys()
        return QUIET_SECONDS if self._is_watched and not unsettled else SCAN_SECONDS

    def list_pods(self) -> bool:
        """Forget pods whose cgroup is gone, and note which to look at: True if anything changed."""
        before = self.kubepods
        if before is None or not before.is_dir():
            self.kubepods = self._find_kubepods()
        happened = self._watch.drain() if self._watch is not None else set()
        found = self._listed_and_watched()
        new = {pod.uid: pod for pod in found.pods}
        if len(new) == MOST_PODS:
            log.error("there are %d pods or more on this node: those beyond are not found", MOST_PODS)
        if new.keys() - self._listed.keys():
            self._coming()
        gone = self._listed.keys() - new.keys()
        for uid in gone:
            self._forget(uid)
        for waiting in self.waiting.values():
            if waiting.pod.path in happened:
                waiting.young = self._clock() + YOUNG_SECONDS
        self._listed = new
        self._to_look = [pod for pod in new.values() if not self._is_settled(pod.uid)]
        return bool(gone) or self.kubepods != before

    def _listed_and_watched(self) -> Listing:
        """What comes after this listing is told of: where something is watched for the first time, it is made again."""
        for _ in range(LISTINGS):
            found = kubepods.list_pods(self.kubepods, MOST_PODS) if self.kubepods is not None else Listing((), ())
            if not self._watch_all([*found.directories, *(pod.path for pod in found.pods)]):
                break
        return found

    def _watch_all(self, paths: list[Path]) -> bool:
        """True = some of them were not watched until now."""
        if self._watch is None:
            return False
        before = self._watch.paths
        self._is_watched = self._watch.watch(paths) and bool(paths)
        return not self._watch.paths <= before

    def _find_kubepods(self) -> Path | None:
        if self._given is not None:
            return self._given if self._given.is_dir() else None
        found = kubepods.find(self._top)
        if len(found) > 1:
            log.warning("several cgroups hold pods: %s; the first is this node's (--kubepods names another)", found)
        return found[0] if found else None

    def _forget(self, uid: str) -> None:
        self.waiting.pop(uid, None)
        self.refused.pop(uid, None)
        sandbox = self.sandboxes.pop(uid, None)
        if sandbox is not None:
            sandbox.close()

    def _is_settled(self, uid: str) -> bool:
        sandbox = self.sandboxes.get(uid)
        return sandbox is not None and sandbox.process.is_alive()

    def look(self, most: int) -> bool:
        """At so many of the pods noted: True if something changed."""
        changed = False
        for pod in self._next(most):
            changed |= self._look(pod)
        return changed

    def _next(self, most: int) -> Iterator[PodDirectory]:
        now, self._to_look = self._to_look[:most], self._to_look[most:]
        yield from now

    def _look(self, pod: PodDirectory) -> bool:
        waiting = self.waiting.setdefault(pod.uid, Waiting(pod, self._clock(), self._clock() + YOUNG_SECONDS))
        try:
            sandbox = find(pod)
            if sandbox is None:
                return False
            return self._judge(sandbox, waiting)
        except SandboxError as error:
            return self._refuse(pod.uid, str(error))

    def _judge(self, sandbox: Sandbox, waiting: Waiting) -> bool:
        try:
            why = self._why_not(sandbox)
        except SandboxError:
            sandbox.close()
            raise
        if not why:
            return self._take(sandbox)
        sandbox.close()
        if self._clock() < waiting.since + JOINING_SECONDS:
            return False
        return self._refuse(sandbox.uid, why)

    def _why_not(self, sandbox: Sandbox) -> str:
        if self._node.include(sandbox):
            return "its sandbox is in the node's own network namespace, which is never a pod's"
        for uid, other in self.sandboxes.items():
            if other.inode == sandbox.inode and uid != sandbox.uid:
                return f"its network namespace already belongs to the pod with UID {uid}: one namespace, one pod"
        return ""

    def _take(self, sandbox: Sandbox) -> bool:
        """A new process in the namespace that we hold already is no change."""
        before = self.sandboxes.get(sandbox.uid)
        same = before is not None and before.inode == sandbox.inode
        if before is not None and same:
            os.close(sandbox.namespace)
            before.process.close()
            sandbox = replace(sandbox, namespace=before.namespace)
        elif before is not None:
            before.close()
        self.sandboxes[sandbox.uid] = sandbox
        self.waiting.pop(sandbox.uid)
        return bool(self.refused.pop(sandbox.uid, "")) or not same

    def _refuse(self, uid: str, why: str) -> bool:
        if self.refused.get(uid) == why:
            return False
        log.info("pod with UID %s: %s", uid, why)  # pods with hostNetwork are among them
        self.refused[uid] = why
        return True

    def close(self) -> None:
        for uid in list(self.sandboxes):
            self._forget(uid)
        self._node.close()
        if self._watch is not None:
            self._watch.close()


def _watch() -> DirectoryWatch | None:
    """None: new pods are found by the slow scan only."""
    try:
        return DirectoryWatch()
    except OSError as error:
        log.error(
            "inotify cannot be used: %s (sysctl fs.inotify.max_user_instances). New pods are found up to %.0f s late",
            error.strerror,
            SCAN_SECONDS,
        )
        return None
