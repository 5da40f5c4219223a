"""`status` of our kinds: what the agents write.  Manifests may carry it along; the API server takes none from them."""

from __future__ import annotations

from nodeagent.config.schema import Dropped, Fields, Items, Schema, Text, Whole
from nodeagent.config.schemas.common import GROUP, KIND, LABEL, OBJECT_NAME, PORT, SUBDOMAIN

_REASON = r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_TYPE = r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_TIME = Text(most=35, format="date-time")
CONDITION = Fields(
    {
        "type": Text(pattern=_TYPE, least=1, most=316),
        "status": Text(enum=("True", "False", "Unknown")),
        "observedGeneration": Whole(0),
        "lastTransitionTime": _TIME,
        "reason": Text(pattern=_REASON, least=1, most=1024),
        "message": Text(most=32768),
    },
    ("type", "status", "lastTransitionTime", "reason", "message"),
)
CONDITIONS = Items(CONDITION, most=8, unique=("type",))
_ANCESTOR = Fields(
    {"group": GROUP, "kind": KIND, "namespace": LABEL, "name": OBJECT_NAME, "sectionName": SUBDOMAIN, "port": PORT},
    ("name",),
)
_CONTROLLER = Text(
    pattern=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9/\-._~%!$&\x27()*+,;=:]+",
    shape="a controller name such as mesh.nodeagent.dev/controller",
    least=1,
    most=253,
)
_OF_POLICIES: dict[str, Schema] = {
    "conditions": CONDITIONS,
    "ancestors": Items(
        Fields(
            {"ancestorRef": _ANCESTOR, "controllerName": _CONTROLLER, "conditions": CONDITIONS},
            ("ancestorRef", "controllerName", "conditions"),
        ),
        most=16,
    ),
}
POLICY_STATUS = Dropped(Fields(_OF_POLICIES))
"""GEP-713: one entry for each target, and conditions that sum them up."""
