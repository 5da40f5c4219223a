"""What an agent says of its node: the status of the MeshNode named like it.

Written when it changes, never as a heartbeat: of an agent that cannot speak any more `silence` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodeagent.core.api_group import API_VERSION

Value = Mapping[str, Any]

ENFORCING, BYPASSED, DETACHED = "Enforcing", "Bypassed", "Detached"
READY, BPF_LOADED, CONFIG_SYNCED = "Ready", "BPFLoaded", "ConfigSynced"
SYNCED, PENDING, STALE = "Synced", "Pending", "Stale"
SILENT = "AgentSilent"


@dataclass(frozen=True, slots=True)
class InForce:
    """Of one kind: how many objects, and which (see `digests`)."""

    objects: int
    digest: str


@dataclass(frozen=True, slots=True)
class Counted:
    """Of pods: in the mesh, not in it although they should be, left out because of the node's network; of workers."""

    enrolled: int = 0
    failed: int = 0
    host_network: int = 0
    workers_ready: int = 0
    workers_wanted: int = 0


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """`problem`: why the node is not ready, "" = it is; `sync_problem`: why what it enforces is not the newest."""

    mode: str
    kernel: str
    version: str
    problem: str = ""
    sync: str = SYNCED
    sync_problem: str = ""
    in_force: Mapping[str, InForce] = field(default_factory=dict)
    layout: int = 0
    counted: Counted = field(default_factory=Counted)


def planned(facts: NodeFacts, status: Value | None, now: str) -> dict[str, Any] | None:
    """The status that there should be; None = there is.  `now` is the time of what changes."""
    before = status or {}
    said = {str(one.get("type")): one for one in before.get("conditions") or []}
    after = {
        "conditions": [_condition(one, said.get(one[0]) or {}, now) for one in _conditions(facts)],
        "mode": facts.mode,
        "kernel": facts.kernel,
        "agentVersion": facts.version,
        "layoutVersion": facts.layout,
        "pods": {
            "enrolled": facts.counted.enrolled,
            "failed": facts.counted.failed,
            "hostNetwork": facts.counted.host_network,
        },
        "workers": {"ready": facts.counted.workers_ready, "wanted": facts.counted.workers_wanted},
        "inForce": [
            {"kind": kind, "objects": one.objects, "digest": one.digest}
            for kind, one in sorted(facts.in_force.items())
        ],
    }
    return None if after == {name: before.get(name) for name in after} else after


def mesh_node(node: str, uid: str) -> dict[str, Any]:
    """The object to create.  It belongs to the Node, so that it goes with it; `uid` "" = not known."""
    metadata: dict[str, Any] = {"name": node}
    if uid:
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": API_VERSION, "kind": "MeshNode", "metadata": metadata}


def is_ready(status: Value) -> bool:
    return any(one.get("type") == READY and one.get("status") == "True" for one in status.get("conditions") or [])


def silenced(status: Value, why: str, now: str) -> list[dict[str, Any]]:
    """The conditions, of which those that only the agent can vouch for are not known any more."""
    message = f"the agent does not answer, {why}: see its log; what this object says is what it said last"
    said = {READY: SILENT, CONFIG_SYNCED: "Unknown"}
    return [
        {**one, "status": "Unknown", "reason": said[one["type"]], "message": message, "lastTransitionTime": now}
        if one["type"] in said
        else dict(one)
        for one in status.get("conditions") or []
    ]


def digests_of(status: Value | None) -> dict[str, str]:
    """Kind -> digest, of what a node says that it has in force."""
    return {str(one.get("kind")): str(one.get("digest")) for one in (status or {}).get("inForce") or []}


def _conditions(facts: NodeFacts) -> list[tuple[str, bool, str, str]]:
    attached, synced = facts.mode != DETACHED, facts.sync == SYNCED
    return [
        (READY, not facts.problem, "Ready" if not facts.problem else "NotReady", facts.problem),
        (BPF_LOADED, attached, facts.mode, "" if attached else "no program is attached: all traffic is direct"),
        (CONFIG_SYNCED, synced, facts.sync, facts.sync_problem),
    ]


def _condition(said: tuple[str, bool, str, str], before: Value, now: str) -> dict[str, Any]:
    name, holds, reason, message = said
    status = "True" if holds else "False"
    same = before.get("status") == status and before.get("lastTransitionTime")
    return {
        "type": name,
        "status": status,
        "lastTransitionTime": before["lastTransitionTime"] if same else now,
        "reason": reason,
        "message": message,
    }
