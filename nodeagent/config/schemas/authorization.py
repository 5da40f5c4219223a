"""AuthorizationPolicy (mesh.nodeagent.dev/v1alpha1): our own kind, strict in every field."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from nodeagent.config.cel import Cel, in_cel
from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Fields, Items, Text
from nodeagent.config.schemas.common import GROUP, LABEL, OBJECT_NAME, PORT, top_level
from nodeagent.config.schemas.http_matches import HTTP
from nodeagent.config.schemas.status import POLICY_STATUS
from nodeagent.config.schemas.targets import MODE, namespace_target_is_the_own_one

_SOURCES = ("serviceAccount", "namespace", "cidr")
_TARGET_KINDS = ("Service", "Namespace")


@in_cel(
    Cel(
        "[has(self.serviceAccount), has(self.__namespace__), has(self.cidr)].exists_one(given, given)",
        "must have exactly one of serviceAccount, namespace, cidr",
    )
)
def source_has_exactly_one_kind(source: dict[str, Any]) -> Iterator[FieldError]:
    given = [name for name in _SOURCES if source.get(name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        yield FieldError((), f"expected exactly one of {', '.join(_SOURCES)}, got {got}")


@in_cel(Cel("!has(self.group) || self.group in ['', 'core']", 'group must be "": Service, Namespace', ".group"))
def target_is_of_the_core_group(target: dict[str, Any]) -> Iterator[FieldError]:
    if target.get("group") not in (None, "", "core"):
        yield FieldError(("group",), f'unsupported value {target["group"]!r}: Service and Namespace are of group ""')


@in_cel(
    Cel(
        "self.enforcementLevel == 'Application' || !has(self.rules) || self.rules.all(rule, !has(rule.http))",
        "rules[].http is only allowed with enforcementLevel Application",
        ".rules",
    )
)
def http_needs_application_level(spec: dict[str, Any]) -> Iterator[FieldError]:
    if spec["enforcementLevel"] == "Application":
        return
    for index, rule in enumerate(spec.get("rules") or []):
        if rule.get("http") is not None:
            yield FieldError(("rules", index, "http"), "is only allowed with enforcementLevel Application")


@in_cel(
    Cel(
        "isCIDR(self) && cidr(self).masked() == cidr(self)",
        "must be a CIDR block such as 10.0.0.0/8, without host bits",
    )
)
def cidr_fault(text: str) -> str:
    """What is wrong with a CIDR block, or ""."""
    if "/" not in text:
        return f"{text!r} is not a CIDR block such as 10.0.0.0/8: the prefix length is missing"
    if not re.fullmatch(r"[0-9a-fA-F:.]+/(0|[1-9][0-9]{0,2})", text):  # Python would take a netmask, and a zone
        return f"{text!r} is not a CIDR block such as 10.0.0.0/8"
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError as error:
        return f"is not a CIDR block such as 10.0.0.0/8: {error}"
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        return f"{text!r} is IPv4 written as IPv6: write it as an IPv4 block"
    return ""


CIDR = Text(most=49, check=cidr_fault)
ACCOUNT = Fields(
    {
        "namespace": LABEL,
        "name": Text(
            pattern=r"\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?", shape='a service account name or "*"', least=1, most=253
        ),
    },
    ("namespace", "name"),
)
_SOURCE = Fields(
    {"serviceAccount": ACCOUNT, "namespace": LABEL, "cidr": CIDR},
    rules=(source_has_exactly_one_kind,),
)
_RULE = Fields(
    {
        "sources": Items(_SOURCE, least=1, most=64),
        "networkAttributes": Fields({"ports": Items(PORT, least=1, most=32)}, ("ports",)),
        "http": HTTP,
    }
)
_TARGET = Fields(
    {"group": GROUP, "kind": Text(enum=_TARGET_KINDS), "name": OBJECT_NAME},
    ("kind", "name"),
    rules=(target_is_of_the_core_group,),
)
_POLICY = top_level(
    {
        "spec": Fields(
            {
                "targetRefs": Items(_TARGET, least=1, most=16, unique=("kind", "name")),
                "action": Text(enum=("ALLOW", "DENY", "AUDIT")),
                "enforcementLevel": Text(enum=("Network", "Application")),
                "mode": MODE,
                "rules": Items(_RULE, most=64),
            },
            ("targetRefs", "enforcementLevel"),
            rules=(http_needs_application_level,),
        ),
        "status": POLICY_STATUS,
    },
    ("spec",),
)
AUTHORIZATION_POLICY = Fields(_POLICY.fields, _POLICY.required, rules=(namespace_target_is_the_own_one,))
