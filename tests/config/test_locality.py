"""Which endpoints are near: by hints as kube-proxy does it, else by what the controller would have hinted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.groundwork import lay
from nodeagent.config.locality import Locality, Nearby, locality, nearby
from nodeagent.config.resources import NodeObject, Placement, TrafficDistribution
from nodeagent.core.model import Destination, Endpoint
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

NONE, SAME_ZONE, SAME_NODE = TrafficDistribution
HERE = Locality("n1", "a")
FIRST, SECOND, THIRD = (Endpoint(f"198.18.0.{number}", 8080) for number in (11, 12, 13))


def near(*places: Placement, wanted: TrafficDistribution = NONE, here: Locality = HERE) -> Nearby:
    return nearby(list(zip((FIRST, SECOND, THIRD), places, strict=False)), wanted, here)


def hinted(zones: Sequence[str] = (), nodes: Sequence[str] = ()) -> Placement:
    return Placement(for_zones=tuple(zones), for_nodes=tuple(nodes))


def test_endpoints_hinted_for_the_zone_are_used_whatever_the_service_says() -> None:
    assert near(hinted("a"), hinted("b"), hinted("ab")) == Nearby((FIRST, THIRD), "zone a")


def test_one_endpoint_without_a_hint_is_enough_to_use_all() -> None:
    assert near(hinted("a"), hinted("b"), hinted()) == Nearby((FIRST, SECOND, THIRD))


def test_a_zone_without_endpoints_uses_all() -> None:
    assert near(hinted("b"), hinted("c")) == Nearby((FIRST, SECOND))
    assert near(hinted("b"), hinted("c"), here=Locality("n1", "")) == Nearby((FIRST, SECOND))


def test_hints_for_the_node_come_before_those_for_its_zone() -> None:
    places = hinted("a", ["n1"]), hinted("a", ["n2"]), hinted("b", ["n3"])
    assert near(*places) == Nearby((FIRST,), "node n1")
    assert near(*places, here=Locality("n4", "a")) == Nearby((FIRST, SECOND), "zone a")
    assert near(*places[:2], hinted("b")) == Nearby((FIRST, SECOND), "zone a")  # one without a hint for a node
    assert near(*places, here=Locality("n4", "d")) == Nearby((FIRST, SECOND, THIRD))


def test_all_of_the_endpoints_nearby_is_nothing_to_tell() -> None:
    assert near(hinted("a"), hinted("a")) == Nearby((FIRST, SECOND))


def test_without_any_hint_an_endpoint_is_for_its_own_zone_and_node_as_the_service_wants_it() -> None:
    places = Placement("a", "n1"), Placement("a", "n2"), Placement("b", "n3")
    assert near(*places) == Nearby((FIRST, SECOND, THIRD))
    assert near(*places, wanted=SAME_ZONE) == Nearby((FIRST, SECOND), "zone a")
    assert near(*places, wanted=SAME_NODE) == Nearby((FIRST,), "node n1")
    assert near(*places, wanted=SAME_NODE, here=Locality("n4", "b")) == Nearby((THIRD,), "zone b")
    assert near(*places[:2], Placement(), wanted=SAME_NODE) == Nearby((FIRST, SECOND, THIRD))


def test_own_zones_are_no_hints_where_somebody_hinted() -> None:
    assert near(Placement("a"), Placement("b", for_zones=("b",)), wanted=SAME_ZONE) == Nearby((FIRST, SECOND))


def by_the_book(places: Sequence[Placement], here: Locality) -> list[int]:
    """kube-proxy's rule for hints, in the words of KEP-3015: positions of the endpoints to use."""
    for name, hints in ((here.node, [one.for_nodes for one in places]), (here.zone, [one.for_zones for one in places])):
        if name and all(hints) and any(name in one for one in hints):
            return [number for number, one in enumerate(hints) if name in one]
    return list(range(len(places)))


names = st.lists(st.sampled_from(["a", "b", "n1", "n2"]), max_size=2, unique=True).map(tuple)
places = st.builds(Placement, st.sampled_from(["", "a"]), st.sampled_from(["", "n1"]), names, names)


@given(st.lists(places, min_size=1, max_size=4), st.sampled_from(TrafficDistribution), st.sampled_from([*"ab", ""]))
def test_hints_count_by_the_rule_of_kube_proxy(placed: list[Placement], wanted: TrafficDistribution, zone: str) -> None:
    ready = [(Endpoint("198.18.0.1", number), place) for number, place in enumerate(placed)]
    here = Locality("n1", zone)
    found = nearby(ready, wanted, here)
    if any(one.for_zones or one.for_nodes for one in placed):
        assert [endpoint.port for endpoint in found.endpoints] == by_the_book(placed, here)
    assert found.endpoints
    assert bool(found.where) == (len(found.endpoints) < len(placed))


def test_the_zone_is_the_one_given_else_that_of_our_node_object() -> None:
    nodes = {"n1": NodeObject("n1", "a"), "n2": NodeObject("n2", "b")}
    assert locality(nodes, "n1", "") == Locality("n1", "a")
    assert locality(nodes, "n1", "c") == Locality("n1", "c")
    assert locality(nodes, "n3", "") == Locality("n3", "")


# ---- from manifests ----


def service(name: str, wanted: str, *endpoints: dict[str, Any], vip: str = some.VIP) -> list[Document]:
    one, slice_ = some.service(name, vip)
    one["spec"]["trafficDistribution"] = wanted
    slice_["endpoints"] = [
        {"addresses": [f"198.18.0.{11 + number}"], **endpoint} for number, endpoint in enumerate(endpoints)
    ]
    return [one, slice_]


def frontend(*documents: Document, here: Locality = HERE, vip: str = some.VIP) -> Destination:
    objects = some.objects(*some.callers(), *documents)
    return compile_objects(objects, 1, groundwork=lay(objects, here=here))[0].destinations[vip, 80]


def numbers(destination: Destination) -> list[str]:
    return [endpoint.address.rpartition(".")[2] for endpoint in destination.endpoints]


NEAR, FAR = {"zone": "a", "nodeName": "n1"}, {"zone": "b", "nodeName": "n2"}


@pytest.mark.parametrize(
    ("wanted", "where"), [("PreferClose", "zone a"), ("PreferSameZone", "zone a"), ("PreferSameNode", "node n1")]
)
def test_each_word_of_traffic_distribution_narrows_a_frontends_endpoints(wanted: str, where: str) -> None:
    found = frontend(*service("cart", wanted, NEAR, FAR))
    assert (numbers(found), found.nearby) == (["11"], where)


def test_only_ready_endpoints_keep_requests_in_the_zone() -> None:
    gone = {"conditions": {"ready": False}}
    leaving = {"conditions": {"ready": False, "serving": True, "terminating": True}}
    assert numbers(frontend(*service("cart", "PreferClose", {**NEAR, **gone}, FAR))) == ["12"]
    assert numbers(frontend(*service("cart", "PreferClose", NEAR, FAR, gone))) == ["11"]
    assert numbers(frontend(*service("cart", "PreferClose", {**NEAR, **leaving}, {**FAR, **leaving}))) == ["11", "12"]


def test_hints_of_an_endpoint_slice_are_read() -> None:
    hints = [{"hints": {"forZones": [{"name": zone}]}} for zone in "ba"]
    found = frontend(*service("cart", "PreferClose", {**NEAR, **hints[0]}, {**FAR, **hints[1]}))
    assert (numbers(found), found.nearby) == (["12"], "zone a")


def test_a_backend_of_a_route_and_a_mirror_are_narrowed_by_their_own_service() -> None:
    db = service("db", "PreferClose", FAR, NEAR, vip=some.OTHER_VIP)
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": manifests.backend("db", 1)}}
    mirror["requestMirror"]["backendRef"].pop("weight")  # type: ignore[index]
    rule = {"backendRefs": [manifests.backend("db", 1)], "filters": [mirror]}
    (found,) = frontend(*some.service("cart"), *db, manifests.http_route("shop", "r", "cart", [rule])).producer_rules
    for backend in (found.backends[0], found.mirrors[0].backend):
        assert [endpoint.address for endpoint in backend.endpoints] == ["198.18.0.12"]
        assert backend.nearby == "zone a"


def test_policies_protect_the_endpoints_that_are_far() -> None:
    deny = some.policy("p", "DENY", [{"sources": [{"namespace": "batch"}]}], level="Network")
    objects = some.objects(*some.callers(), *service("cart", "PreferClose", NEAR, FAR), deny)
    snapshot = compile_objects(objects, 1, groundwork=lay(objects, here=HERE))[0]
    assert [policy.name for policy in snapshot.destinations["198.18.0.12", 8080].policies] == ["shop/p"]


def test_where_two_slices_disagree_their_order_does_not_matter() -> None:
    one, first = service("cart", "PreferClose", NEAR, FAR)
    second = {**first, "metadata": {**first["metadata"], "name": "cart-2"}, "endpoints": [dict(first["endpoints"][0])]}
    second["endpoints"][0]["zone"] = "b"
    assert frontend(one, first, second) == frontend(one, second, first)


def test_another_zone_compiles_to_the_same_with_and_without_what_was_there_before() -> None:
    rule = {"backendRefs": [manifests.backend("cart", 1)]}
    objects = some.objects(
        *some.callers(),
        *service("cart", "PreferClose", NEAR, FAR),
        manifests.http_route("shop", "r", "cart", [rule]),
    )
    ground = lay(objects, here=HERE)
    compile_objects(objects, 1, groundwork=ground)
    there = Locality("n1", "b")
    again = compile_objects(objects, 2, groundwork=lay(objects, ground, there))
    assert some.same(again, compile_objects(objects, 2, groundwork=lay(objects, here=there)))
    assert numbers(again[0].destinations[some.VIP, 80]) == ["12"]
    assert lay(objects, ground, HERE).topology is ground.topology


def test_a_word_that_kubernetes_does_not_know_is_told_with_those_that_it_knows() -> None:
    one, slice_ = service("cart", "PreferNear", NEAR)
    (problem,) = some.load({"all.yaml": some.text(one, slice_)})[1].problems
    assert problem.field == "spec.trafficDistribution"
    assert "PreferSameZone" in problem.message


# ---- internalTrafficPolicy ----


def local(name: str, *endpoints: dict[str, Any], wanted: str = "") -> list[Document]:
    found = service(name, wanted or "PreferClose", *endpoints)
    found[0]["spec"]["internalTrafficPolicy"] = "Local"
    return found


LEAVING = {"conditions": {"ready": False, "serving": True, "terminating": True}}


def test_an_internal_traffic_policy_local_uses_the_nodes_own_endpoints_whatever_is_hinted() -> None:
    hinted = {**NEAR, "hints": {"forZones": [{"name": "b"}], "forNodes": [{"name": "n2"}]}}
    found = frontend(*local("cart", hinted, {**FAR, "hints": {"forZones": [{"name": "a"}]}}))
    assert (numbers(found), found.nearby) == (["11"], "node n1")


def test_an_internal_traffic_policy_local_uses_nothing_where_the_node_has_no_endpoint() -> None:
    assert numbers(frontend(*local("cart", FAR, {"zone": "a"}))) == []
    assert numbers(frontend(*local("cart", {**NEAR, "conditions": {"ready": False}}, FAR))) == []


def test_an_endpoint_of_the_node_that_is_leaving_comes_before_any_of_others() -> None:
    assert numbers(frontend(*local("cart", {**NEAR, **LEAVING}, FAR))) == ["11"]
    assert numbers(frontend(*local("cart", {**NEAR, **LEAVING}, NEAR))) == ["12"]


def test_an_agent_that_does_not_know_its_node_has_no_own_endpoints_to_stay_with() -> None:
    assert numbers(frontend(*local("cart", NEAR, FAR), here=Locality())) == ["11", "12"]


def test_policies_protect_endpoints_that_an_internal_traffic_policy_leaves_out() -> None:
    deny = some.policy("p", "DENY", [{"sources": [{"namespace": "batch"}]}], level="Network")
    found = frontend(*local("cart", FAR), deny)
    assert [policy.name for policy in found.policies] == ["shop/p"]
