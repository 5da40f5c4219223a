"""What TrafficPolicy and RateLimitPolicy may target: objects of their own namespace (GEP-713)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.cel import Cel, in_cel
from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Fields, Items, Text
from nodeagent.config.schemas.common import GROUP, OBJECT_NAME, SUBDOMAIN

ROUTE_GROUP = "gateway.networking.k8s.io"
MODE = Text(enum=("Enforce", "DryRun"))


@in_cel(
    Cel(
        f"self.kind != 'HTTPRoute' || has(self.group) && self.group == '{ROUTE_GROUP}'",
        f"group of an HTTPRoute must be {ROUTE_GROUP}",
        ".group",
    ),
    Cel(
        "self.kind == 'HTTPRoute' || !has(self.group) || self.group in ['', 'core']",
        'group must be "" for this kind',
        ".group",
    ),
)
def target_is_of_its_group(target: dict[str, Any]) -> Iterator[FieldError]:
    group, kind = target.get("group") or "", target["kind"]
    if kind == "HTTPRoute" and group != ROUTE_GROUP:
        yield FieldError(("group",), f"unsupported value {group!r}: HTTPRoute is of group {ROUTE_GROUP}")
    if kind != "HTTPRoute" and group not in ("", "core"):
        yield FieldError(("group",), f'unsupported value {group!r}: {kind} is of group ""')


@in_cel(
    Cel(
        "self.kind != 'Namespace' || !has(self.sectionName)",
        "sectionName must not be given when the kind is Namespace",
        ".sectionName",
    )
)
def a_namespace_has_no_sections(target: dict[str, Any]) -> Iterator[FieldError]:
    if target["kind"] == "Namespace" and target.get("sectionName"):
        yield FieldError(("sectionName",), "must not be given when the kind is Namespace")


@in_cel(
    Cel(
        "object.spec.targetRefs.all(target, target.kind != 'Namespace' || target.name == request.namespace)",
        "spec.targetRefs[].name: a target of kind Namespace must be the policy's own namespace",
        admission="namespace-targets",
    )
)
def namespace_target_is_the_own_one(policy: dict[str, Any]) -> Iterator[FieldError]:
    own = policy["metadata"].get("namespace") or "default"
    for index, target in enumerate(policy["spec"]["targetRefs"]):
        if target["kind"] == "Namespace" and target["name"] != own:
            path = ("spec", "targetRefs", index, "name")
            yield FieldError(path, f"{target['name']!r} is not the policy's own namespace {own!r}")


def targets(*kinds: str) -> Items:
    """`sectionName` is a port's name for a Service, a rule's for an HTTPRoute."""
    target = Fields(
        {"group": GROUP, "kind": Text(enum=kinds), "name": OBJECT_NAME, "sectionName": SUBDOMAIN},
        ("kind", "name"),
        rules=(target_is_of_its_group, a_namespace_has_no_sections),
    )
    return Items(target, least=1, most=16, unique=("kind", "name", "sectionName"))
