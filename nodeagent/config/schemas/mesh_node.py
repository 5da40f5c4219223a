"""MeshNode (mesh.nodeagent.dev/v1alpha1): one a node, named like it; the agent there writes its status."""

from __future__ import annotations

from nodeagent.config.schema import Dropped, Fields, Items, Schema, Text, Whole
from nodeagent.config.schemas.common import KIND, top_level
from nodeagent.config.schemas.status import CONDITIONS

MODES = ("Enforcing", "Bypassed", "Detached")
"""Programs are attached and judge; `nodeagent bypass` is on; nothing is attached."""

_TOTAL = Whole(0)
_IN_FORCE = Fields(
    {"kind": KIND, "objects": _TOTAL, "digest": Text(pattern=r"[0-9a-f]{32}", most=32)}, ("kind", "objects", "digest")
)
_STATUS: dict[str, Schema] = {
    "conditions": CONDITIONS,
    "mode": Text(enum=MODES),
    "kernel": Text(most=128),
    "agentVersion": Text(most=64),
    "layoutVersion": Whole(0, 2**31 - 1),
    "pods": Fields({"enrolled": _TOTAL, "failed": _TOTAL, "hostNetwork": _TOTAL}),
    "workers": Fields({"ready": _TOTAL, "wanted": _TOTAL}),
    "inForce": Items(_IN_FORCE, most=16, unique=("kind",)),
}
MESH_NODE = top_level({"status": Dropped(Fields(_STATUS))})
