"""From objects to a snapshot: which addresses are destinations, and which policies reach them by whatever name."""

from __future__ import annotations

import pytest

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.conditions import ACCEPTED
from nodeagent.core.coverage import coverage
from nodeagent.core.model import FailMode, Protocol
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

BATCH: Document = {"sources": [{"namespace": "batch"}]}
BASE = [*some.callers(), *some.service("cart")]


def test_a_service_is_a_frontend_per_cluster_ip_and_an_endpoint_per_pod() -> None:
    service = manifests.service("shop", "cart", [some.VIP, "fd00::1"])
    four = manifests.endpoint_slice("shop", "cart", [some.POD, some.OTHER_POD])
    six = manifests.endpoint_slice("shop", "cart", ["fd00:0::2"], suffix="6")
    four["endpoints"][1]["conditions"] = {"ready": False}
    table = some.snapshot(service, four, six).destinations
    pods = {(some.POD, 8080), (some.OTHER_POD, 8080), ("fd00::2", 8080)}
    assert set(table) == {(some.VIP, 80), ("fd00::1", 80), *pods}
    assert [one.address for one in table[some.VIP, 80].endpoints] == [some.POD]
    assert [one.address for one in table["fd00::1", 80].endpoints] == ["fd00::2"]
    assert table[some.VIP, 80].ports == (80, 8080)


READY: Document = {"ready": True, "serving": True, "terminating": False}
STARTING: Document = {"ready": False, "serving": False, "terminating": False}
LEAVING: Document = {"ready": False, "serving": True, "terminating": True}
STOPPED: Document = {"ready": False, "serving": False, "terminating": True}


def chosen(*conditions: Document | None) -> list[str]:
    """Where cart's connections go when its endpoints are, in order, in these conditions."""
    addresses = [f"198.18.0.{11 + number}" for number in range(len(conditions))]
    four = manifests.endpoint_slice("shop", "cart", addresses)
    for endpoint, condition in zip(four["endpoints"], conditions, strict=True):
        endpoint["conditions"] = condition
    table = some.snapshot(manifests.service("shop", "cart", [some.VIP]), four).destinations
    return [endpoint.address for endpoint in table[some.VIP, 80].endpoints]


def test_endpoints_are_ready_unless_they_say_that_they_are_not() -> None:
    first, second = "198.18.0.11", "198.18.0.12"
    assert chosen(None, {}) == [first, second]
    assert chosen({"ready": None}, {"ready": True}) == [first, second]
    assert chosen(STARTING, READY) == [second]


def test_endpoints_that_leave_but_serve_are_used_while_none_is_ready() -> None:
    assert chosen(READY, LEAVING) == ["198.18.0.11"]
    assert chosen(STARTING, LEAVING, STOPPED) == ["198.18.0.12"]
    assert chosen({"ready": False, "terminating": True}) == ["198.18.0.11"]
    assert chosen(STARTING, STOPPED) == []


def test_of_two_entries_for_one_endpoint_the_better_counts() -> None:
    one = manifests.endpoint_slice("shop", "cart", [some.POD, some.POD])
    one["endpoints"][1]["conditions"] = STARTING
    two = manifests.endpoint_slice("shop", "cart", [some.POD], suffix="2")
    two["endpoints"][0]["conditions"] = LEAVING
    table = some.snapshot(manifests.service("shop", "cart", [some.VIP]), one, two).destinations
    assert [endpoint.address for endpoint in table[some.VIP, 80].endpoints] == [some.POD]


@pytest.mark.parametrize("conditions", [STARTING, LEAVING, STOPPED], ids=["starting", "leaving", "stopped"])
def test_an_endpoint_that_is_not_ready_keeps_its_policy(conditions: Document) -> None:
    """It may still answer who dials its address, and connections to it are still there to be ended."""
    cart = some.service("cart")
    cart[1]["endpoints"][0]["conditions"] = conditions
    snap = some.snapshot(*some.callers(), *cart, some.policy("p", "DENY", [BATCH], level="Network"))
    assert some.ask(snap, "batch/job", (some.POD, 8080)).policy == "shop/p"
    assert some.ask(snap, "shop/web", (some.POD, 8080)).status == 0
    assert coverage(snap, [snap.workloads["batch/job"]]).of("batch/job") >= {(some.POD, 8080)}


def test_what_protects_a_service_does_not_depend_on_which_of_its_pods_are_ready() -> None:
    """alias shares a pod with cart; whether that one is ready must not open alias, nor a route to it."""
    alias = some.service("alias", some.OTHER_VIP, some.POD)
    alias[1]["endpoints"].append({"addresses": [some.OTHER_POD]})
    route = manifests.http_route("shop", "r", "alias", [{"backendRefs": [manifests.backend("alias", 1)]}])
    deny = some.policy("p", "DENY", [BATCH], level="Network")
    for conditions in (READY, STARTING):
        alias[1]["endpoints"][0]["conditions"] = conditions
        front = some.snapshot(*BASE, *alias, route, deny).destinations[some.OTHER_VIP, 80]
        assert [policy.name for policy in front.policies] == ["shop/p"]
        assert [policy.name for policy in front.producer_rules[0].backends[0].policies] == ["shop/p"]


def test_an_ipv4_mapped_address_of_a_service_is_ipv4() -> None:
    """An endpoint's is refused, as the API server does it."""
    service = manifests.service("shop", "cart", [f"::ffff:{some.VIP}"])
    table = some.snapshot(service, manifests.endpoint_slice("shop", "cart", [some.POD])).destinations
    assert [one.address for one in table[some.VIP, 80].endpoints] == [some.POD]


def test_headless_and_external_services_have_no_frontend() -> None:
    headless = manifests.service("shop", "cart", ["None"])
    external = manifests.service("shop", "out", [some.OTHER_VIP])
    external["spec"]["type"] = "ExternalName"
    table = some.snapshot(headless, external, manifests.endpoint_slice("shop", "cart", [some.POD])).destinations
    assert set(table) == {(some.POD, 8080)}


@pytest.mark.parametrize(
    ("app_protocol", "port_name", "expected"),
    [
        ("http", "tcp", Protocol.HTTP1),
        ("HTTP", "x", Protocol.HTTP1),
        ("kubernetes.io/ws", "x", Protocol.HTTP1),
        ("kubernetes.io/h2c", "http", Protocol.HTTP2),
        ("grpc", "http", Protocol.HTTP2),
        ("https", "http", Protocol.TLS),
        ("example.com/own", "http", Protocol.OPAQUE),
        (None, "http", Protocol.HTTP1),
        (None, "http-admin", Protocol.HTTP1),
        (None, "http2", Protocol.HTTP2),
        (None, "grpc-api", Protocol.HTTP2),
        (None, "https", Protocol.TLS),
        (None, "httpx", Protocol.OPAQUE),
        (None, "web", Protocol.OPAQUE),
    ],
)
def test_the_protocol_is_app_protocol_else_the_ports_name_else_opaque(
    app_protocol: str | None, port_name: str, expected: Protocol
) -> None:
    service = manifests.service("shop", "cart", [some.VIP], port_name=port_name, app_protocol=app_protocol)
    endpoints = manifests.endpoint_slice("shop", "cart", [some.POD], port_name=port_name)
    table = some.snapshot(service, endpoints).destinations
    assert {one.protocol for one in table.values()} == {expected}


def test_services_that_disagree_about_an_endpoints_protocol_make_it_opaque() -> None:
    raw = manifests.service("shop", "raw", [some.OTHER_VIP], port_name="tcp", app_protocol=None)
    table = some.snapshot(*BASE, raw, manifests.endpoint_slice("shop", "raw", [some.POD], port_name="tcp")).destinations
    assert table[some.POD, 8080].protocol is Protocol.OPAQUE
    assert table[some.VIP, 80].protocol is Protocol.HTTP1


def test_where_services_share_an_endpoint_any_deny_wins_by_every_name() -> None:
    alias = some.service("alias", some.OTHER_VIP, some.POD)
    snap = some.snapshot(*BASE, *alias, some.policy("p", "DENY", [BATCH], level="Network"))
    for target in ((some.VIP, 80), (some.OTHER_VIP, 80), (some.POD, 8080)):
        assert some.ask(snap, "batch/job", target).policy == "shop/p"
        assert some.ask(snap, "shop/web", target).status == 0
    assert snap.destinations[some.POD, 8080].services == ("shop/alias", "shop/cart")


def test_a_service_of_another_namespace_evades_no_policy_of_the_services_it_copies() -> None:
    foreign = some.service("alias", some.OTHER_VIP, some.POD, namespace="batch")
    snap = some.snapshot(*BASE, *foreign, some.policy("p", "DENY", [BATCH], level="Network"))
    assert some.ask(snap, "batch/job", (some.OTHER_VIP, 80)).policy == "shop/p"


def test_a_service_of_another_namespace_evades_no_policy_of_the_pods_namespace() -> None:
    """The port is in no Service of the pod's own namespace: only its namespace-wide policy protects it."""
    secret = some.pod("shop", "secret", some.OTHER_POD)
    foreign = some.service("alias", some.OTHER_VIP, some.OTHER_POD, namespace="batch")
    deny = some.namespace_policy("shop", "closed", "DENY", [BATCH])
    for extra in ([], foreign):
        snap = some.snapshot(*some.callers(), secret, deny, *extra)
        assert some.ask(snap, "batch/job", (some.OTHER_POD, 8080)).policy == "shop/closed"
        assert some.ask(snap, "shop/web", (some.OTHER_POD, 8080)).status == 0
    assert some.ask(snap, "batch/job", (some.OTHER_VIP, 80)).policy == "shop/closed"


def test_a_namespace_wide_policy_reaches_services_endpoints_and_every_other_port_of_the_pods() -> None:
    deny = some.namespace_policy("shop", "closed", "DENY", [BATCH])
    snap = some.snapshot(*BASE, some.pod("shop", "cart", some.POD), deny)
    for target in ((some.VIP, 80), (some.POD, 8080), (some.POD, 9999), (some.WEB, 1)):
        assert some.ask(snap, "batch/job", target).policy == "shop/closed"
        assert some.ask(snap, "shop/web", target).status == 0
    assert snap.destination(some.JOB, 80) is None


def test_a_namespace_wide_policy_with_ports_is_for_these_ports_only() -> None:
    rule = {**BATCH, "networkAttributes": {"ports": [22, 9090]}}
    snap = some.snapshot(*BASE, some.pod("shop", "cart", some.POD), some.namespace_policy("shop", "p", "DENY", [rule]))
    denied = [port for port in (21, 22, 8080, 9090) if some.ask(snap, "batch/job", (some.POD, port)).status == 403]
    assert denied == [22, 9090]


def test_pods_that_share_an_address_share_the_policies_of_their_namespaces() -> None:
    node = "198.18.0.99"
    pods = [some.pod(namespace, "agent", node) for namespace in ("shop", "batch")]
    policies = [some.namespace_policy(one, "p", "DENY", [BATCH]) for one in ("shop", "batch")]
    snap = some.snapshot(*some.callers(), *pods, *policies)
    assert [policy.name for policy in snap.destinations[node, 0].policies] == ["batch/p", "shop/p"]


def test_a_broken_namespace_wide_policy_refuses_the_whole_namespace() -> None:
    broken = some.namespace_policy("shop", "closed", "DENY", [{"sources": [{"cidr": "ten"}]}])
    found = some.load({"all.yaml": some.text(*BASE, broken)})[1]
    snap, _ = compile_objects(found, 1)
    for target in ((some.VIP, 80), (some.POD, 8080), (some.WEB, 1)):
        assert some.ask(snap, "shop/web", target).status == 403
    assert snap.destination(some.JOB, 80) is None


def test_a_cluster_ip_taken_twice_stays_with_the_first_and_is_said() -> None:
    snap, conditions = some.compiled(*BASE, *some.service("dart", some.VIP, some.OTHER_POD))
    assert snap.destinations[some.VIP, 80].name == "shop/cart:80"
    said = some.condition(conditions, ACCEPTED, "shop/dart")
    assert (said.status, said.reason) == ("False", "Conflicted")
    assert "already belongs to shop/cart:80" in said.message


@pytest.mark.parametrize(
    ("namespace", "pod", "enrolled"),
    [("enabled", "", True), ("", "", False), ("enabled", "disabled", False), ("", "enabled", True), ("on", "", False)],
)
def test_a_pods_label_decides_over_its_namespaces(namespace: str, pod: str, enrolled: bool) -> None:
    label = "mesh.nodeagent.dev/dataplane"
    one, other = manifests.namespace("shop", enrolled=False), some.pod("shop", "web", some.WEB)
    one["metadata"]["labels"] = {label: namespace} if namespace else {}
    other["metadata"]["labels"] = {label: pod} if pod else {}
    assert some.snapshot(one, other).workloads["shop/web"].enrolled is enrolled
    other["spec"]["hostNetwork"] = True
    assert not some.snapshot(one, other).workloads["shop/web"].enrolled


def test_a_namespace_chooses_how_its_pods_fail_and_what_becomes_of_old_connections() -> None:
    closed = {"mesh.nodeagent.dev/fail-mode": "Closed", "mesh.nodeagent.dev/unpoliced-connections": "cut"}
    for wishes, expected in ((closed, (FailMode.CLOSED, True)), ({}, (FailMode.OPEN, False))):
        one = manifests.namespace("shop", annotations=wishes)
        web = some.snapshot(one, some.pod("shop", "web", some.WEB)).workloads["shop/web"]
        assert (web.fail_mode, web.cut_unpoliced) == expected


def test_a_pod_that_has_ended_gives_up_its_address() -> None:
    ended = some.pod("shop", "web", some.WEB)
    ended["status"]["phase"] = "Succeeded"
    assert some.snapshot(ended).workloads["shop/web"].addresses == ()


def test_deleting_an_object_removes_its_effect() -> None:
    files = {"base.yaml": some.text(*BASE), "p.yaml": some.text(some.policy("p", "DENY", [{}]))}
    good, before = some.load(files)
    assert some.ask(compile_objects(before, 1)[0], "shop/web").status == 403
    after = some.load({"base.yaml": files["base.yaml"]}, good)[1]
    assert compile_objects(after, 1)[0] == some.snapshot(*BASE)
