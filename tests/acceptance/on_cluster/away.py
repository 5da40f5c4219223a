"""Line 4: the API server is killed, the agents are killed and start again without it, and then it is back."""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import dataclass

from tests.acceptance.on_cluster import objects, watched
from tests.acceptance.on_cluster.mesh import Mesh
from tests.acceptance.on_cluster.shop import NODES
from tests.acceptance.on_cluster.waiting import until
from tests.cluster.cluster import Cluster
from tests.cluster.node import Node

PROGRAM = "kube-apiserver"
BACK = "back"
PATIENCE = 150  # client-go waits 30 s at most, and as much again by chance


@dataclass(frozen=True)
class Away:
    allowed: Counter[str]
    denied: Counter[str]
    told: str  # the line of `nodeagent status` about the source, with the agents started again
    stale: list[float]  # seconds, as each node said before the server came back
    restarted: list[float]  # seconds from the kill of an agent to ready
    synced: float  # seconds from the first answer of the server to the last node in sync

    def __str__(self) -> str:
        restarts = ", ".join(f"{one:.1f} s" for one in self.restarted)
        return (
            f"allowed {dict(self.allowed)}, denied {dict(self.denied)}; agents killed, ready again after {restarts}; "
            f'stale for {self.stale} s: "{self.told}"; back: in sync after {self.synced:.2f} s'
        )


def outage(mesh: Mesh, seen: watched.Watched, seconds: float) -> Away:
    control, nodes = mesh.cluster.control, mesh.cluster.nodes
    began = time.time()
    control.box.stop(PROGRAM, signal.SIGKILL)
    gone = time.monotonic()
    time.sleep(seconds / 3)
    assert all(_stale(mesh, node) for node in nodes), "an agent does not say that it is stale"
    restarted = [_restart(mesh, node) for node in nodes]
    time.sleep(max(0.0, gone + seconds - time.monotonic()))
    stale = [_stale(mesh, node) for node in nodes]
    [told, *_] = [line for line in mesh.told(nodes[0]).splitlines() if line.startswith("source")] or ["nothing"]
    control.start_apiserver()
    synced = until(lambda: not any(_stale(mesh, node) for node in nodes), 60, "the agents are in sync")
    found = seen.seen(began)
    _until_pods_start(mesh.cluster)
    return Away(watched.outcomes(found, "allowed"), watched.outcomes(found, "denied"), told, stale, restarted, synced)


def _until_pods_start(cluster: Cluster) -> None:
    """On every node.

    Kubelets and controllers that lost their API server ask again after up to a minute, and what comes next needs them.
    """
    objects.create_namespace(cluster, objects.namespace(BACK), PATIENCE)
    try:
        pods = [objects.client(BACK, f"pod-{number}", node) for number, node in enumerate(NODES, 1)]
        objects.apply(cluster, *pods)
        objects.wait_pods(cluster, *pods, seconds=PATIENCE)
    finally:
        cluster.kubectl("delete", "namespace", BACK, "--timeout=60s")


def _stale(mesh: Mesh, node: Node) -> float:
    seconds: float = mesh.status(node)["config"]["stale_s"]
    return seconds


def _restart(mesh: Mesh, node: Node) -> float:
    """By SIGKILL; its kubelet starts the container again.  Seconds until that one is ready."""
    before = mesh.status(node)["agent"]["pid"]
    node.box.run(["kill", "-KILL", str(before)])

    def is_another() -> bool:
        agent = mesh.status(node)["agent"]
        return bool(agent.get("ready") and agent["pid"] != before)

    return until(is_another, 60, f"the agent of {node.name} is ready again")
