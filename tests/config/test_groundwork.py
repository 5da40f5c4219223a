"""What is used again is what would have been made again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.groundwork import lay
from nodeagent.config.locality import Locality
from nodeagent.config.manifest_files import ManifestFile
from nodeagent.config.objects import ObjectSet, merge
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

HERE = Locality("n1", "a")
BASE = [*some.callers(), *some.service("cart"), some.pod("shop", "cart", some.POD)]
DENY = some.namespace_policy("shop", "p", "DENY", [{"sources": [{"namespace": "batch"}]}])


@pytest.mark.parametrize(
    "more",
    [
        [DENY],
        [manifests.http_route("shop", "r", "cart", [{"backendRefs": [manifests.backend("cart", 1)]}])],
        some.service("db", some.OTHER_VIP, some.OTHER_POD),
        [manifests.endpoint_slice("shop", "cart", [some.OTHER_POD], suffix="2")],
        [some.pod("batch", "other", some.OTHER_POD), DENY],
        [manifests.namespace("late", enrolled=False)],
    ],
    ids=["policy", "route", "service", "slice", "pod", "namespace"],
)
def test_a_change_compiles_to_the_same_with_and_without_what_was_there_before(more: list[Document]) -> None:
    small, big = some.objects(*BASE), some.objects(*BASE, *more)
    for before, now in ((small, big), (big, small)):
        again = compile_objects(now, 2, groundwork=lay(now, lay(before)))
        assert some.same(again, compile_objects(now, 2))


BROKEN = some.policy("broken", "DENY", [{"sources": [{"cidr": "ten"}]}])
TO_DB = manifests.http_route("shop", "r", "cart", [{"backendRefs": [manifests.backend("db", 1)]}])
DB = some.service("db", some.OTHER_VIP, some.OTHER_POD)
CART = {"kind": "Service", "name": "cart"}
STEPS: list[list[Document]] = [
    [],
    [some.policy("p", "DENY", [{"http": {"methods": ["PUT"]}}])],
    [some.policy("p", "DENY", [{"http": {"methods": ["GET"]}}])],
    [TO_DB],
    [TO_DB, some.policy("p", "DENY", [{}], service="db")],
    [DENY],
    [BROKEN],
    [manifests.traffic_policy("shop", "t", CART, timeouts={"request": "1s"})],
    [manifests.traffic_policy("shop", "t", CART, mode="DryRun")],
    [TO_DB, manifests.traffic_policy("shop", "t", CART, mode="DryRun")],
    [manifests.rate_limit_policy("shop", "l", CART, connections={"limit": {"connections": 1}})],
    [manifests.rate_limit_policy("shop", "l", CART, http={"rules": [{"name": "a", "limit": {"requests": 1}}]})],
    [manifests.traffic_policy("shop", "n", {"kind": "Namespace", "name": "shop"}, limits={"maxConnections": 1})],
    [],
]


def test_generations_on_one_groundwork_are_what_each_compiles_to_alone() -> None:
    """Policies and routes come, change and go; an earlier generation's destinations are used where they are equal."""
    ground = None
    for before in STEPS:
        for now in STEPS:
            for generation, documents in enumerate((before, now)):
                found = some.load({"all.yaml": some.text(*BASE, *DB, *documents)})[1]
                ground = lay(found, ground)
                now_ = compile_objects(found, generation, groundwork=ground)
                assert some.same(now_, compile_objects(found, generation))


def test_destinations_that_a_change_does_not_meet_are_the_same_objects_in_the_next_generation() -> None:
    old, new = some.objects(*BASE, *DB), some.objects(*BASE, *DB, some.policy("p", "DENY", [{}], service="db"))
    ground = lay(old)
    before, after = (compile_objects(one, 1, groundwork=lay(one, ground))[0].destinations for one in (old, new))
    same = {target for target, destination in after.items() if destination is before[target]}
    assert same == {(some.VIP, 80), (some.POD, 8080)}


def test_limits_that_did_not_change_leave_the_pods_the_same_objects() -> None:
    target = {"kind": "Namespace", "name": "shop"}

    def limited(most: int, *more: Document) -> ObjectSet:
        return some.objects(
            *BASE, *more, manifests.traffic_policy("shop", "n", target, limits={"maxConnections": most})
        )

    ground = lay(limited(1))
    before, same, other = (
        compile_objects(one, 1, groundwork=ground)[0] for one in (limited(1), limited(1, DENY), limited(2))
    )
    assert same.workloads is before.workloads
    assert [pods.workloads["shop/web"].limits.max_connections for pods in (before, other)] == [1, 2]  # type: ignore[union-attr]
    assert other.workloads["batch/job"] is before.workloads["batch/job"]


def test_a_change_of_policies_and_routes_leaves_the_groundwork_as_it_is() -> None:
    before = lay(some.objects(*BASE))
    after = lay(some.objects(*BASE, DENY), before)
    assert (after.topology, after.pods, after.ownership) == (before.topology, before.pods, before.ownership)
    assert lay(some.objects(*BASE, some.pod("shop", "new", some.OTHER_POD)), before).topology is before.topology


def headless() -> list[Document]:
    """A Service with two ports on one target port, that shares its pod with others."""
    service = manifests.service("shop", "twin", ["198.19.0.3"], port=8080)
    service["spec"]["ports"].append({**service["spec"]["ports"][0], "name": "http-2", "port": 81})
    slices = manifests.endpoint_slice("shop", "twin", [some.POD, some.OTHER_POD])
    return [service, slices, {**manifests.endpoint_slice("shop", "twin", [some.POD], port_name="http-2", suffix="2")}]


def in_zone(zone: str, wanted: str) -> list[Document]:
    """cart with an endpoint in `zone` and one in zone b."""
    service, slice_ = some.service("cart")
    service["spec"]["trafficDistribution"] = wanted
    slice_["endpoints"] = [{"addresses": [some.POD], "zone": zone}, {"addresses": [some.OTHER_POD], "zone": "b"}]
    return [service, slice_]


ROUTE = manifests.http_route("shop", "a", "cart", [{"backendRefs": [manifests.backend("cart", 1)]}])
TO_ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "a"}
PIECES: list[list[Document]] = [
    some.service("cart"),
    [manifests.endpoint_slice("shop", "cart", [some.OTHER_POD, "198.18.0.13"], suffix="2")],
    some.service("cart", address=""),
    DB,
    some.service("db", some.VIP, some.OTHER_POD),  # the same address as cart's
    some.service("peer", some.POD, "198.18.0.13", namespace="batch"),  # its address is an endpoint's
    headless(),
    [some.pod("shop", "cart", some.POD)],
    [some.pod("batch", "cart", some.POD, "other")],
    [some.pod("shop", "cart", some.OTHER_POD)],
    [some.pod("shop", "host", some.WEB)],
    [manifests.namespace("shop", enrolled=False)],
    [manifests.namespace("late")],
    [DENY],
    [some.namespace_policy("batch", "q", "ALLOW", [{"networkAttributes": {"ports": [8080, 9]}}])],
    [some.policy("p", "DENY", [{"http": {"methods": ["PUT"]}}])],
    [some.policy("p", "DENY", [{}], service="db")],
    [BROKEN],
    [TO_DB],
    [ROUTE],
    in_zone("a", "PreferClose"),
    in_zone("c", "PreferClose")[1:],
    [{**ROUTE, "spec": {**ROUTE["spec"], "rules": [{"backendRefs": [manifests.backend("cart", 7)]}]}}],
    [manifests.traffic_policy("shop", "t", {"group": "", "kind": "Service", "name": "cart"}, timeouts={"idle": "9s"})],
    [manifests.rate_limit_policy("shop", "l", TO_ROUTE, http={"rules": [{"name": "all", "limit": {"requests": 9}}]})],
    [manifests.traffic_policy("batch", "caps", {"kind": "Namespace", "name": "batch"}, limits={"maxConnections": 5})],
]
some_of_them = st.sets(st.sampled_from(range(len(PIECES))))


@st.composite
def histories(draw: st.DrawFn) -> list[list[int]]:
    """Which pieces are there: a few come or leave at a time."""
    there = draw(some_of_them)
    found = [sorted(there)]
    for _ in range(draw(st.integers(1, 4))):
        there = there ^ draw(st.sets(st.sampled_from(range(len(PIECES))), min_size=1, max_size=2))
        found.append(sorted(there))
    return found


def chosen(pieces: list[int]) -> dict[str, list[Document]]:
    """One file per piece; of two documents of one object the first counts."""
    return {f"{number:02}.yaml": PIECES[number] for number in pieces}


def behind_a_route() -> list[list[int]]:
    """A policy of what a route leads to comes, and what it leads to has another endpoint."""
    cart, db, route = 0, PIECES.index(DB), PIECES.index([TO_DB])
    policy, other = 16, 4
    assert PIECES[policy][0]["spec"]["targetRefs"][0]["name"] == "db"
    return [[cart, db, route], [cart, db, policy, route], [cart, db, other, route], [cart, other, policy, route]]


@example(behind_a_route())
@given(histories())
def test_whatever_changes_compiles_to_the_same_on_what_was_there_before(history: list[list[int]]) -> None:
    """And what is equal to a destination or pod of before is the same object."""
    ground, files, before = None, {"all.yaml": read(some.callers())}, None
    for generation, pieces in enumerate(history):
        files |= {name: files.get(name) or read(documents) for name, documents in chosen(pieces).items()}
        wanted = ["all.yaml", *chosen(pieces)]
        found = merge([replace(files[name], name=name) for name in wanted], {})[1]
        ground = lay(found, ground, HERE)
        now = compile_objects(found, generation, groundwork=ground)
        assert some.same(now, compile_objects(found, generation, groundwork=lay(found, here=HERE)))
        if before is not None:
            for target, destination in now[0].destinations.items():
                old = before.destinations.get(target)
                assert destination is old or destination != old
            for key, pod in now[0].workloads.items():
                assert pod is before.workloads.get(key) or pod != before.workloads.get(key)
        before = now[0]


def read(documents: list[Document]) -> ManifestFile:
    return some.read("", some.text(*documents))
