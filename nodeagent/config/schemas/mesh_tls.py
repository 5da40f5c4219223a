"""MeshTLS (mesh.nodeagent.dev/v1alpha1): which connections to a target must be mutual TLS.  Checked, not yet in force.

Words: Istio's PeerAuthentication for modes, Gateway API's for references.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.cel import Cel, in_cel
from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Fields, Items, Text
from nodeagent.config.schemas.common import OBJECT_NAME, PORT, top_level
from nodeagent.config.schemas.status import POLICY_STATUS
from nodeagent.config.schemas.targets import namespace_target_is_the_own_one, targets

_TLS_MODE = Text(enum=("DISABLE", "PERMISSIVE", "STRICT"))
_TRUST = ("trustDomain", "caCertificateRefs")


@in_cel(
    Cel(
        "!has(self.ports) || self.targetRefs.all(target, !has(target.sectionName))",
        "ports must not be given when a target has a sectionName, which is one port already",
        ".ports",
    )
)
def a_section_is_one_port(spec: dict[str, Any]) -> Iterator[FieldError]:
    if spec.get("ports") is not None and any(target.get("sectionName") for target in spec["targetRefs"]):
        yield FieldError(("ports",), "must not be given when a target has a sectionName, which is one port already")


@in_cel(
    *(
        Cel(
            f"!has(self.{name}) || self.mode != 'DISABLE' || has(self.ports) && "
            "self.ports.exists(port, port.mode != 'DISABLE')",
            f"{name} must not be given when every mode is DISABLE: nobody is authenticated",
            f".{name}",
        )
        for name in _TRUST
    )
)
def who_is_trusted_is_asked(spec: dict[str, Any]) -> Iterator[FieldError]:
    modes = {spec["mode"], *(port["mode"] for port in spec.get("ports") or [])}
    for name in _TRUST:
        if modes == {"DISABLE"} and spec.get(name) is not None:
            yield FieldError((name,), "must not be given when every mode is DISABLE: nobody is authenticated")


@in_cel(Cel("!has(self.group) || self.group in ['', 'core']", 'group must be "": ConfigMap, Secret', ".group"))
def certificates_are_of_the_core_group(reference: dict[str, Any]) -> Iterator[FieldError]:
    if reference.get("group") not in (None, "", "core"):
        yield FieldError(("group",), f'unsupported value {reference["group"]!r}: {reference["kind"]} is of group ""')


_CERTIFICATE = Fields(
    {"group": Text(most=253), "kind": Text(enum=("ConfigMap", "Secret")), "name": OBJECT_NAME},
    ("kind", "name"),
    rules=(certificates_are_of_the_core_group,),
)
_SPEC = Fields(
    {
        "targetRefs": targets("Service", "Namespace"),
        "mode": _TLS_MODE,
        "ports": Items(Fields({"port": PORT, "mode": _TLS_MODE}, ("port", "mode")), least=1, most=64, unique=("port",)),
        "trustDomain": Text(
            pattern=r"[a-z0-9]([-a-z0-9._]*[a-z0-9])?", shape="a SPIFFE trust domain in lower case", least=1, most=255
        ),
        "caCertificateRefs": Items(_CERTIFICATE, least=1, most=8, unique=("kind", "name")),
    },
    ("targetRefs", "mode"),
    rules=(a_section_is_one_port, who_is_trusted_is_asked),
)
_POLICY = top_level({"spec": _SPEC, "status": POLICY_STATUS}, ("spec",))
MESH_TLS = Fields(_POLICY.fields, _POLICY.required, rules=(namespace_target_is_the_own_one,))
