"""Established connections inside pods: ended when a rule first covers them, listed when older than enrolment.

Only connections that the pod itself dialled count: not those it accepted, not loopback, and not the
upstream connections that workers hold in its namespace (those belong to a cgroup of ours).

For each pod that is looked at the kernel walks the host's whole table of connections: 2 ms, which an endpoint that
comes would cost for each pod of the node.  So the hooks note where pods dial to, and who looks asks there first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from nodeagent.agent.enrolment import EnrolledPod
from nodeagent.core.addresses import UNSPECIFIED
from nodeagent.core.coverage import Target, is_covered
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.netns import Connection

log = logging.getLogger(__name__)


class Diag(Protocol):
    """sock_diag inside pods' namespaces, by way of the netlink child."""

    async def established(self, pods: Collection[EnrolledPod]) -> dict[str, list[Connection]]:
        """Pod key -> its established connections, a pod that is gone left out."""

    async def destroy(self, pod: EnrolledPod, connections: Collection[Connection]) -> int:
        """How many were there to be ended."""


class Dialled(Protocol):
    """Where pods of this node dialled to (kernel/dialled.py)."""

    @property
    def turn(self) -> int: ...
    def note(self, addresses: Iterable[str]) -> None: ...
    def among(self, addresses: Iterable[str]) -> set[str]: ...
    def forget_some(self) -> None: ...


def is_loopback(connection: Connection) -> bool:
    return connection.remote.startswith("127.") or connection.remote in ("::1", connection.local)


def _is_meant(connection: Connection, covered: frozenset[Target], known: Collection[Target]) -> bool:
    """A pod that listens on a port can dial from it, and sock_diag does not tell that from accepting.

    So a connection to exactly a covered port was dialled, whatever listens at its other end.
    """
    remote = (connection.remote, connection.remote_port)
    return remote in covered or (connection.dialled and is_covered(covered, *remote, known))


class NetnsConnections:
    """Implements programming.Connections.  `count(outcome, pod key, n)` keeps the counters."""

    def __init__(
        self,
        diag: Diag,
        dialled: Dialled,
        misled: Callable[[], bool],
        own_cgroups: Callable[[], Collection[int]],
        count: Callable[[Outcome, str, int], None],
    ) -> None:
        """`misled`: whether connections may lead elsewhere than where the hooks saw pods dial to.

        `own_cgroups`: ours, and those of agents whose workers are still there or already (a takeover).
        """
        self._diag = diag
        self._where = dialled
        self._ask_misled = misled
        self._misled = False  # or it was once, and connections of then may go on
        self._own_cgroups = own_cgroups
        self._count = count
        self._unpoliced: dict[int, frozenset[int]] = {}  # cookie of a namespace -> cookies of its sockets
        self._noted: dict[int, int] = {}  # the same -> turn in which all its connections were noted in `dialled`

    async def end_covered(self, targets: Mapping[EnrolledPod, frozenset[Target]], known: Collection[Target]) -> int:
        targets = self._worth_a_look(targets)
        listed = await self._list(list(targets))
        ended = 0
        for pod, covered in targets.items():
            meant = [c for c in self._outside(pod, listed) if _is_meant(c, covered, known)]
            ended += await self._end(pod, meant, Outcome.DRAINED)
        return ended

    def _worth_a_look(
        self, targets: Mapping[EnrolledPod, frozenset[Target]]
    ) -> Mapping[EnrolledPod, frozenset[Target]]:
        """Without pods that have no connection to any of these."""
        self._misled = self._misled or self._ask_misled()
        if self._misled:
            return targets
        addresses = {address for covered in targets.values() for address, _port in covered}
        suspects = self._where.among(addresses) | addresses.intersection(UNSPECIFIED)  # which stand for any node's
        turn = self._where.turn
        return {
            pod: covered
            for pod, covered in targets.items()
            if self._noted.get(pod.cookie, -1) < turn or any(address in suspects for address, _port in covered)
        }

    def forget_some(self) -> None:
        """Of where was dialled, if that is much; call every few seconds."""
        self._where.forget_some()

    async def _list(self, pods: Collection[EnrolledPod]) -> dict[str, list[Connection]]:
        """With what the hooks did not see, because it is older than they are: noted where they would have."""
        turn = self._where.turn
        listed = await self._diag.established(pods)
        for pod in pods:
            self._where.note({connection.remote for connection in self._outside(pod, listed)})
            if pod.key in listed:
                self._noted[pod.cookie] = turn
        return listed

    async def note_unpoliced(self, pods: Collection[EnrolledPod], cut: Collection[str]) -> int:
        listed = await self._list(pods)
        noted = 0
        for pod in pods:
            found = list(self._dialled(pod, listed))
            noted += self._note(pod, found)
            if pod.key in cut:
                await self._end(pod, found, Outcome.CUT)
        return noted

    def _note(self, pod: EnrolledPod, found: Collection[Connection]) -> int:
        """How many of them were not counted before: an attempt that failed half-way is made again."""
        cookies = frozenset(connection.cookie for connection in found)
        fresh = len(cookies - self._unpoliced.get(pod.cookie, frozenset()))
        if fresh:
            self._count(Outcome.UNPOLICED, pod.key, fresh)
            log.warning("pod %s has %d connections older than its enrolment: no rule reaches them", pod.key, fresh)
        self._unpoliced[pod.cookie] = cookies
        return fresh

    async def _end(self, pod: EnrolledPod, connections: list[Connection], outcome: Outcome) -> int:
        if not connections:
            return 0
        ended = await self._diag.destroy(pod, connections)
        self._count(outcome, pod.key, ended)
        log.info("pod %s: %d direct connections ended (%s)", pod.key, ended, outcome.name.lower())
        return ended

    def _dialled(self, pod: EnrolledPod, listed: Mapping[str, list[Connection]]) -> Iterable[Connection]:
        return (connection for connection in self._outside(pod, listed) if connection.dialled)

    def _outside(self, pod: EnrolledPod, listed: Mapping[str, list[Connection]]) -> Iterable[Connection]:
        """Of the pod itself, and not to itself."""
        ours = self._own_cgroups()
        for connection in listed.get(pod.key, []):
            own = connection.cgroup in ours or connection.remote in pod.addresses
            if not is_loopback(connection) and not own:
                yield connection

    async def rows(self, pods: Collection[EnrolledPod]) -> list[dict[str, Any]]:
        """Direct connections of these pods, for `get connections`."""
        listed = await self._diag.established(pods)
        return [self._row(pod, connection) for pod in pods for connection in self._dialled(pod, listed)]

    def _row(self, pod: EnrolledPod, connection: Connection) -> dict[str, Any]:
        namespace, _, name = pod.key.partition("/")
        old = connection.cookie in self._unpoliced.get(pod.cookie, frozenset())
        return {
            "namespace": namespace,
            "name": name,
            "path": "unpoliced" if old else "direct",
            "local": f"{connection.local}:{connection.local_port}",
            "remote": f"{connection.remote}:{connection.remote_port}",
            "destination": "",
            "worker": "",
        }

    def forget(self, pods: Collection[EnrolledPod]) -> None:
        for pod in pods:
            self._unpoliced.pop(pod.cookie, None)
            self._noted.pop(pod.cookie, None)
