"""Pods of this node that ask for the mesh and are not in it: what is said about them, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import PodObject
from nodeagent.config.workloads import wish
from nodeagent.core.differences import Selection
from nodeagent.status.occurrences import NORMAL, WARNING, Occurrence, Regarding

NOT_ENROLLED, HOST_NETWORK = "NotEnrolled", "HostNetwork"
LASTING = 3.0  # seconds that a problem lasts before it is told: pods come and go

_UNTOUCHED = "its connections are direct, and no policy applies to them"


def refused(pod: PodObject, why: str) -> Occurrence:
    note = (
        f"not in the mesh: {why}. Until it is, {_UNTOUCHED}. It is tried again by itself; if that does not help, "
        f"delete the pod, and see the log of the agent on node {pod.node}"
    )
    return Occurrence(_regarding(pod), NOT_ENROLLED, note)


def on_the_nodes_network(pod: PodObject) -> Occurrence:
    """A warning where the pod itself asks for what it cannot have, not where its whole namespace is in the mesh."""
    note = (
        f"not in the mesh: spec.hostNetwork gives it the network namespace of its node, which is never enrolled, so "
        f"{_UNTOUCHED}. Take hostNetwork away, or label it mesh.nodeagent.dev/dataplane=disabled if it is meant"
    )
    return Occurrence(_regarding(pod), HOST_NETWORK, note, WARNING if pod.dataplane else NORMAL)


def _regarding(pod: PodObject) -> Regarding:
    return Regarding("v1", "Pod", pod.namespace, pod.name, pod.uid)


class LeftOut:
    """Each is told once, until it is over.  `node`: ours."""

    def __init__(self, node: str) -> None:
        self._host_network: Selection[str, PodObject] = Selection(lambda pod: pod.host_network and pod.node == node)
        self._since: dict[tuple[str, str], _Known] = {}  # by uid and reason

    def host_network(self, objects: ObjectSet) -> list[PodObject]:
        """Those that would be in the mesh."""
        found = self._host_network.of(objects.pods).values()
        return [pod for pod in found if pod.addresses and wish(pod, objects.namespaces.get(pod.namespace)) == "enabled"]

    def news(self, objects: ObjectSet, problems: Mapping[str, str], now: float) -> list[Occurrence]:
        """`problems`: why a pod ("namespace/name") that should be enrolled is not."""
        there = {(one.regarding.uid, one.reason): one for one in self._all(objects, problems)}
        self._since = {key: self._since.get(key) or _Known(now) for key in there}
        return [there[key] for key, known in self._since.items() if known.is_news(there[key].note, now)]

    def _all(self, objects: ObjectSet, problems: Mapping[str, str]) -> Iterator[Occurrence]:
        yield from map(on_the_nodes_network, self.host_network(objects))
        for key, why in problems.items():
            if (pod := objects.pods.get(key)) is not None and pod.uid:
                yield refused(pod, why)


@dataclass(slots=True)
class _Known:
    since: float
    told: str = ""

    def is_news(self, note: str, now: float) -> bool:
        if now - self.since < LASTING or self.told == note:
            return False
        self.told = note
        return True
