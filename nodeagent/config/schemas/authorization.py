"""AuthorizationPolicy (mesh.nodeagent.dev/v1alpha1): our own kind, strict in every field."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Anything, Fields, Items, Text
from nodeagent.config.schemas.common import GROUP, HEADER_NAME, LABEL, OBJECT_NAME, PORT, top_level
from nodeagent.config.schemas.gateway import plain_path_is_absolute_and_normal
from nodeagent.config.schemas.targets import MODE
from nodeagent.core.hosts import HostError, parse_host

_SOURCES = ("serviceAccount", "namespace", "cidr")
_TARGET_KINDS = ("Service", "Namespace")


def source_has_exactly_one_kind(source: dict[str, Any]) -> Iterator[FieldError]:
    given = [name for name in _SOURCES if source.get(name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        yield FieldError((), f"expected exactly one of {', '.join(_SOURCES)}, got {got}")


def target_is_of_the_core_group(target: dict[str, Any]) -> Iterator[FieldError]:
    if target.get("group") not in (None, "", "core"):
        yield FieldError(("group",), f'unsupported value {target["group"]!r}: Service and Namespace are of group ""')


def http_needs_application_level(spec: dict[str, Any]) -> Iterator[FieldError]:
    if spec["enforcementLevel"] == "Application":
        return
    for index, rule in enumerate(spec.get("rules") or []):
        if rule.get("http") is not None:
            yield FieldError(("rules", index, "http"), "is only allowed with enforcementLevel Application")


def http_matches_something(http: dict[str, Any]) -> Iterator[FieldError]:
    """`http: {}` would match every request, `methods: []` none or every one: say what is meant."""
    for name, value in http.items():
        if value == []:
            yield FieldError((name,), "must not be empty: leave the field out to match any")
    if not any(http.values()):
        yield FieldError(
            (), "must set at least one of methods, paths, hosts, headers; leave http out to match any request"
        )


def namespace_target_is_the_own_one(policy: dict[str, Any]) -> Iterator[FieldError]:
    own = policy["metadata"].get("namespace") or "default"
    for index, target in enumerate(policy["spec"]["targetRefs"]):
        if target["kind"] == "Namespace" and target["name"] != own:
            path = ("spec", "targetRefs", index, "name")
            yield FieldError(path, f"{target['name']!r} is not the policy's own namespace {own!r}")


def cidr_fault(text: str) -> str:
    """What is wrong with a CIDR block, or ""."""
    if "/" not in text:
        return f"{text!r} is not a CIDR block such as 10.0.0.0/8: the prefix length is missing"
    if not text.partition("/")[2].isdecimal() or "%" in text:  # Python would take 10.0.0.0/255.0.0.0, and a zone
        return f"{text!r} is not a CIDR block such as 10.0.0.0/8"
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError as error:
        return f"is not a CIDR block such as 10.0.0.0/8: {error}"
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        return f"{text!r} is IPv4 written as IPv6: write it as an IPv4 block"
    return ""


def host_fault(text: str) -> str:
    """What keeps a host of the right characters from being one, or ""."""
    try:
        parse_host(text.removeprefix("*."))
    except HostError as error:
        return f"{text!r} is not a host: {error.reason}"
    return ""


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
    {"serviceAccount": ACCOUNT, "namespace": LABEL, "cidr": Text(check=cidr_fault)},
    rules=(source_has_exactly_one_kind,),
)
_PATH = Fields(
    {"type": Text(enum=("Exact", "PathPrefix", "RegularExpression")), "value": Text(least=1, most=1024)},
    ("type", "value"),
    rules=(plain_path_is_absolute_and_normal,),
)
_HOST = Text(
    pattern=r"(\*\.)?[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*|\[[0-9a-f:.]+\]",
    shape='a host in lower case without a port, or "*." and one',
    least=1,
    most=253,
    check=host_fault,
)
_HEADER = Fields(
    {"type": Text(enum=("Exact", "RegularExpression")), "name": HEADER_NAME, "value": Text(least=1, most=4096)},
    ("name", "value"),
)
_HTTP = Fields(
    {
        "methods": Items(Text(pattern=r"[A-Z][A-Z-]{0,31}", shape="a method in upper case"), most=16),
        "paths": Items(_PATH, most=16),
        "hosts": Items(_HOST, most=16),
        "headers": Items(_HEADER, most=16),
    },
    rules=(http_matches_something,),
)
_RULE = Fields(
    {
        "sources": Items(_SOURCE, least=1, most=64),
        "networkAttributes": Fields({"ports": Items(PORT, least=1, most=32)}, ("ports",)),
        "http": _HTTP,
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
        "status": Anything(),
    },
    ("spec",),
)
AUTHORIZATION_POLICY = Fields(_POLICY.fields, _POLICY.required, rules=(namespace_target_is_the_own_one,))
