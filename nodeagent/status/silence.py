"""Whose MeshNode still says Ready although the agent there cannot say anything any more.

An agent that was killed, hangs or crashes again and again leaves what it said last.  The kubelet asks it every few
seconds and tells the answer as its pod's condition, so no heartbeat of our own is needed, nor a write while all is
well: the one writer looks at the pods of the agents, and marks the MeshNodes of those that are not Ready.  The agent
itself says how it is as soon as it is able to.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodeagent.status.mesh_node import is_ready, silenced

Value = Mapping[str, Any]

GRACE = 10.0  # seconds without a word: two of the kubelet's questions, which an agent that was just started waits for


@dataclass(frozen=True, slots=True)
class AgentPod:
    name: str
    node: str
    ready: bool


def agent_pod(value: Value, daemonset: str) -> AgentPod | None:
    """None = not one of that DaemonSet, or on no node yet."""
    metadata, node = value["metadata"], (value.get("spec") or {}).get("nodeName")
    owners = metadata.get("ownerReferences") or []
    if not node or not any(one.get("kind") == "DaemonSet" and one.get("name") == daemonset for one in owners):
        return None
    conditions = (value.get("status") or {}).get("conditions") or []
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return AgentPod(str(metadata["name"]), str(node), ready)


@dataclass(slots=True)
class _Node:
    """`heard`: when its agent was Ready last, or wrote."""

    heard: float = -math.inf
    version: str = ""
    status: Value = field(default_factory=dict)


class Silence:
    """Of one term of office.  `now` is of any steady clock."""

    def __init__(self) -> None:
        self._pods: dict[str, AgentPod] = {}
        self._nodes: dict[str, _Node] = {}

    # ---- what comes in ----

    def pod(self, name: str, pod: AgentPod | None, now: float) -> None:
        """None = it is gone, or none of ours."""
        before = self._pods.pop(name, None)
        if pod is not None:
            self._pods[name] = pod
        if before is not None and before.ready and before.node in self._nodes:
            self._nodes[before.node].heard = now

    def pods(self, names: Collection[str], now: float) -> None:
        """There are no others."""
        for name in self._pods.keys() - set(names):
            self.pod(name, None, now)

    def node(self, name: str, value: Value | None, now: float) -> None:
        """A MeshNode, as somebody wrote it just now; None = it is gone."""
        if value is None:
            self._nodes.pop(name, None)
            return
        version = str(value["metadata"].get("resourceVersion") or "")
        self._nodes[name] = _Node(now, version, value.get("status") or {})

    def nodes(self, names: Collection[str]) -> None:
        """There are no others."""
        for name in self._nodes.keys() - set(names):
            del self._nodes[name]

    # ---- what comes of it ----

    @property
    def expected(self) -> frozenset[str]:
        """The nodes where an agent's pod is."""
        return frozenset(pod.node for pod in self._pods.values())

    def due(self, now: float) -> list[str]:
        """The nodes to be marked.  Where no agent is a pod, nobody asks them, and nothing is known."""
        return [name for name, node in self._silent() if now - node.heard >= GRACE]

    def next(self, now: float) -> float | None:
        """Seconds until another is due, if nothing happens."""
        left = (node.heard + GRACE - now for _, node in self._silent())
        return min((one for one in left if one > 0), default=None)

    def patch(self, name: str, wall: str) -> dict[str, Any]:
        """A merge patch of the subresource `status`, refused (409) if the agent wrote meanwhile."""
        node = self._nodes[name]
        pods = sorted(pod.name for pod in self._pods.values() if pod.node == name)
        why = f"its pod {pods[0]} is not Ready" if pods else "there is no pod of it on this node"
        status = {"conditions": silenced(node.status, why, wall)}
        return {"metadata": {"resourceVersion": node.version}, "status": status}

    def _silent(self) -> list[tuple[str, _Node]]:
        if not self._pods:
            return []
        speaking = {pod.node for pod in self._pods.values() if pod.ready}
        return [(name, node) for name, node in self._nodes.items() if name not in speaking and is_ready(node.status)]
