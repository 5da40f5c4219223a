"""The taint by which a node takes no pods until its agent works: taken away by the agent, and put there by whoever made
the node (the kubelet's --register-with-taints, a cloud's node pool).

Nobody else's taint is touched.  Pods that are on the node already are evicted by NoExecute, so it is never put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TAINT = "mesh.nodeagent.dev/agent-not-ready"


def is_tainted(node: Mapping[str, Any]) -> bool:
    return any(taint.get("key") == TAINT for taint in _taints(node))


def without_taint(node: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch.  A list is replaced as a whole, so it holds only while the node is what was read."""
    others = [taint for taint in _taints(node) if taint.get("key") != TAINT]
    version = node["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version}, "spec": {"taints": others or None}}


def _taints(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return node.get("spec", {}).get("taints") or []
