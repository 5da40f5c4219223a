"""Line 2: pods whose container's first act is a request, before or after the agent has classified them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.acceptance.on_cluster import objects
from tests.acceptance.on_cluster.mesh import Mesh
from tests.acceptance.on_cluster.shop import NAME, NODES
from tests.acceptance.on_cluster.waiting import until
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node
from tests.testbed.manifests import Document

ACCOUNT = "web"
# To the Service's address, so that not even a question to DNS comes first.
FIRST_ACT = 'curl -s -m 5 -o /dev/null -w "%{http_code} %{exitcode}" "$0" >/dev/termination-log; true'
ALLOWED, DENIED, REFUSED = "200 0", "403 0", "000 7"


@dataclass(frozen=True)
class Starts:
    """What the first request of each pod came to, and what the agents counted as unclassified meanwhile."""

    outcomes: Counter[str]
    direct: int
    refused: int

    def __str__(self) -> str:
        counted = f"unclassified: {self.direct} direct, {self.refused} refused"
        return f"{self.outcomes.total()} starts: {dict(self.outcomes)}; {counted}"


def start(mesh: Mesh, path: str, count: int, at_once: int) -> Starts:
    """So many pods, alternately on both nodes, `at_once` of them together."""
    before = _counted(mesh)
    address = _service_address(mesh.cluster)
    outcomes: Counter[str] = Counter()
    for first in range(0, count, at_once):
        names = [f"first-{number}" for number in range(first, min(count, first + at_once))]
        outcomes.update(_outcomes(mesh.cluster, names, f"http://{address}{path}"))
    after = _counted(mesh)
    return Starts(outcomes, after[0] - before[0], after[1] - before[1])


def start_without_agents(mesh: Mesh, path: str, count: int) -> Starts:
    """The agents stand still meanwhile (their workers do not), so none of the pods is classified in time."""
    before = _counted(mesh)
    address = _service_address(mesh.cluster)
    names = [f"first-{number}" for number in range(count)]
    with _agents_stopped(mesh):
        outcomes = Counter(_outcomes(mesh.cluster, names, f"http://{address}{path}"))
    until(lambda: all(mesh.status(node)["agent"]["ready"] for node in mesh.cluster.nodes), 30, "the agents go on")
    after = _counted(mesh)
    return Starts(outcomes, after[0] - before[0], after[1] - before[1])


@contextmanager
def _agents_stopped(mesh: Mesh) -> Iterator[None]:
    pids = [(node, str(mesh.status(node)["agent"]["pid"])) for node in mesh.cluster.nodes]
    _signal(pids, "STOP")
    try:
        yield
    finally:
        _signal(pids, "CONT")


def _signal(pids: Sequence[tuple[Node, str]], which: str) -> None:
    for node, pid in pids:
        node.box.run(["kill", f"-{which}", pid])


def _counted(mesh: Mesh) -> tuple[int, int]:
    name = "unclassified_connections_total"
    return round(mesh.metric(name, outcome="direct")), round(mesh.metric(name, outcome="refused"))


def _service_address(cluster: Cluster) -> str:
    return cluster.kubectl("-n", NAME, "get", "service", "catalog", "-o", "jsonpath={.spec.clusterIP}")


def _pod(name: str, node: str, url: str) -> Document:
    labels = {"app": "first"}
    command = ["bash", "-c", FIRST_ACT, url]
    return objects.pod(NAME, name, node, command, labels=labels, restartPolicy="Never", serviceAccountName=ACCOUNT)


def _outcomes(cluster: Cluster, names: Sequence[str], url: str) -> list[str]:
    pods = [_pod(name, NODES[number % 2], url) for number, name in enumerate(names)]
    objects.apply(cluster, *pods)
    try:
        until(lambda: len(_ended(cluster)) == len(pods), 120, "all of the pods have ended")
        return _ended(cluster)
    finally:
        objects.delete(cluster, *pods)


def _ended(cluster: Cluster) -> list[str]:
    """The message of every container that ended."""
    pods = json.loads(cluster.kubectl("-n", NAME, "get", "pods", "-l", "app=first", "-o", "json"))["items"]
    states = [status["state"] for pod in pods for status in pod["status"].get("containerStatuses", [])]
    return [state["terminated"].get("message", "nothing") for state in states if "terminated" in state]
