"""Routes that want the same requests: the first gets them, and the others say so."""

from __future__ import annotations

from typing import Any

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.groundwork import lay
from nodeagent.config.objects import ObjectSet
from nodeagent.config.shadowed import shadowed
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

BASE = [*some.callers(), *some.service("cart")]
V1 = {"path": {"type": "PathPrefix", "value": "/v1"}}
V2 = {"path": {"type": "PathPrefix", "value": "/v2"}, "method": "GET"}


def route(name: str, *matches: Document, created: str = "", namespace: str = "shop") -> Document:
    rule: dict[str, Any] = {"backendRefs": [{"name": "cart", "namespace": "shop", "port": 80}]}
    made = manifests.http_route(namespace, name, "cart", [{"matches": list(matches), **rule} if matches else rule])
    made["spec"]["parentRefs"] = [{"group": "", "kind": "Service", "name": "cart", "namespace": "shop"}]
    if created:
        made["metadata"]["creationTimestamp"] = created
    return made


def objects(*routes: Document) -> ObjectSet:
    return some.objects(*BASE, *routes)


def told(*routes: Document) -> dict[str, tuple[str, str, str]]:
    """Route -> what its Accepted condition says."""
    conditions = compile_objects(objects(*routes), 1)[1]
    return {
        one.object: (one.status, one.reason, one.message)
        for one in conditions
        if one.kind == "HTTPRoute" and one.type == "Accepted"
    }


def test_the_younger_of_two_equal_routes_is_accepted_and_says_that_no_request_meets_it() -> None:
    older = route("z", created="2026-01-01T00:00:00Z")
    younger = route("a", created="2026-01-02T00:00:00Z")
    why = "HTTPRoute shop/z has the same match, and comes first by age or name"
    assert told(younger, older) == {
        "shop/z": ("True", "Accepted", ""),
        "shop/a": ("True", "Accepted", f"no request meets this route: {why}"),
    }


def test_of_a_route_that_others_have_in_part_the_first_such_match_is_named() -> None:
    said = told(route("a", V2), route("b", V1, V2))
    assert said["shop/b"][2].startswith("no request meets rules[0].matches[1]: HTTPRoute shop/a has the same match")
    assert said["shop/a"][2] == ""


def test_routes_that_want_other_requests_say_nothing() -> None:
    assert {one[2] for one in told(route("a", V1), route("b", V2)).values()} == {""}
    assert {one[2] for one in told(route("a"), route("consumer", namespace="batch")).values()} == {""}


def test_a_match_that_a_route_has_twice_is_its_own_business() -> None:
    assert told(route("a", V1, V1))["shop/a"][2] == ""


def test_what_is_said_stays_where_nothing_changed() -> None:
    both = objects(route("a", V1), route("b", V1))
    other = objects(route("a", V1), route("b", V1), route("c", V2))
    ground = lay(both)
    before = compile_objects(both, 1, groundwork=ground)[1].by_object
    after = compile_objects(other, 2, groundwork=lay(other, ground))[1].by_object
    assert after["HTTPRoute", "shop/b"] is before["HTTPRoute", "shop/b"]
    assert shadowed(list(both.routes.values())).keys() == {"shop/b"}


def test_a_route_that_goes_sets_the_other_free() -> None:
    both, one = objects(route("a", V1), route("b", V1)), objects(route("b", V1))
    ground = lay(both)
    compile_objects(both, 1, groundwork=ground)
    conditions = compile_objects(one, 2, groundwork=lay(one, ground))[1]
    assert [said.message for said in conditions if said.type == "Accepted" and said.kind == "HTTPRoute"] == [""]
