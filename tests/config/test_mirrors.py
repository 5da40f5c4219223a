"""RequestMirror filters in manifests: what they become, and a mirror that does not exist stops no request."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.config.conditions import ACCEPTED, RESOLVED_REFS
from nodeagent.core.model import Rule
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document, backend

COPIES = some.service("copies", "198.19.0.8", "198.18.0.18")
BASE = [*some.callers(), *some.service("cart"), *COPIES]


def mirror(name: str = "copies", **fields: Any) -> Document:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name, "port": 80}, **fields}}


def route(*filters: Document, on_backend: tuple[Document, ...] = ()) -> Document:
    rule = {"filters": list(filters), "backendRefs": [{**backend("cart", 1), "filters": list(on_backend)}]}
    return manifests.http_route("shop", "r", "cart", [rule])


def compiled(document: Document) -> Rule:
    (rule,) = some.snapshot(*BASE, document).destinations[some.VIP, 80].producer_rules
    return rule


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (100, 100)),
        ({"percent": 0}, (0, 100)),
        ({"percent": 25}, (25, 100)),
        ({"fraction": {"numerator": 5}}, (5, 100)),
        ({"fraction": {"numerator": 1, "denominator": 1000}}, (1, 1000)),
    ],
)
def test_how_many_requests_are_mirrored(fields: Document, expected: tuple[int, int]) -> None:
    (one,) = compiled(route(mirror(**fields))).mirrors
    assert (one.numerator, one.denominator) == expected
    assert (one.backend.name, [e.address for e in one.backend.endpoints]) == ("shop/copies:80", ["198.18.0.18"])


def test_a_rule_may_have_several_and_a_backend_too() -> None:
    rule = compiled(route(mirror(), mirror("cart"), on_backend=(mirror(percent=1),)))
    assert [one.backend.name for one in rule.mirrors] == ["shop/copies:80", "shop/cart:80"]
    assert [one.numerator for one in rule.backends[0].mirrors] == [1]


def test_a_mirror_brings_its_policies() -> None:
    policy = some.policy("p", "DENY", [{"http": {"methods": ["PUT"]}}], service="copies")
    snap = some.snapshot(*BASE, policy, route(mirror()))
    (rule,) = snap.destinations[some.VIP, 80].producer_rules
    assert [one.name for one in rule.mirrors[0].backend.policies] == ["shop/p"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "gone"}, "BackendNotFound"),
        ({"port": 81}, "BackendNotFound"),
        ({"kind": "Bucket", "group": "ext.example"}, "InvalidKind"),
    ],
)
@pytest.mark.parametrize("level", ["rule", "backend"])
def test_a_mirror_that_cannot_be_reached_gets_no_copies_and_the_request_goes_on(
    change: Document, reason: str, level: str
) -> None:
    broken = mirror()
    broken["requestMirror"]["backendRef"].update(change)
    one = route(broken, mirror()) if level == "rule" else route(on_backend=(broken, mirror()))
    snap, conditions = some.compiled(*BASE, one)
    decision = some.ask(snap, "shop/web")
    assert (decision.status, [one.backend.name for one in decision.mirrors]) == (0, ["shop/copies:80"])
    unresolved = some.condition(conditions, RESOLVED_REFS, "shop/r")
    at = "spec.rules[0]." if level == "rule" else "spec.rules[0].backendRefs[0]."
    assert (unresolved.status, unresolved.reason) == ("False", reason)
    assert unresolved.field == f"{at}filters[0].requestMirror.backendRef"
    assert unresolved.message.endswith("no copies are sent")
    assert some.condition(conditions, ACCEPTED, "shop/r").status == "True"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"percent": 101}, "percent", "too large"),
        ({"percent": -1}, "percent", "too small"),
        ({"fraction": {"numerator": 101}}, "fraction.numerator", "larger than the denominator (100)"),
        ({"fraction": {"numerator": 1, "denominator": 0}}, "fraction.denominator", "too small"),
        ({"fraction": {"denominator": 3}}, "fraction.numerator", "required"),
        ({"percent": 1, "fraction": {"numerator": 1}}, "fraction", "must not be given with percent"),
        ({"backendRef": {"name": "copies"}}, "backendRef.port", "needs a port"),
        ({"backendRef": {"name": "copies", "port": 80, "weight": 1}}, "backendRef.weight", "unknown field"),
        ({"backendRef": None}, "backendRef", "required"),
    ],
)
def test_a_mirror_that_makes_no_sense_is_refused_at_its_field(fields: Document, field: str, words: str) -> None:
    found = some.load({"r.yaml": some.text(route(mirror(**fields)))})[1]
    ((at, message),) = [(problem.field, problem.message) for problem in found.problems]
    assert at == f"spec.rules[0].filters[0].requestMirror.{field}"
    assert words in message
