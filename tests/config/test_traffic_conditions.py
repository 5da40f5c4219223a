"""What is said about TrafficPolicies and RateLimitPolicies, towards each target."""

from __future__ import annotations

import pytest

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.conditions import Condition, programmed
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document, rate_limit_policy, traffic_policy

SERVICE: Document = {"group": "", "kind": "Service", "name": "cart"}
ROUTE: Document = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}
TO_CART = manifests.http_route("shop", "r", "cart", [{"name": "canary", "backendRefs": [{"name": "cart", "port": 80}]}])
BASE = [*some.callers(), *some.service("cart"), TO_CART]
TIMEOUTS = {"timeouts": {"request": "1s"}}


def said(*documents: Document, allow_faults: bool = False) -> dict[str, Condition]:
    """Object -> its Accepted condition; the test has one target an object."""
    found = compile_objects(some.objects(*documents), 1, allow_faults=allow_faults)[1]
    accepted = [one for one in found if one.type == "Accepted" and one.kind != "HTTPRoute"]
    assert len({one.object for one in accepted}) == len(accepted)
    return {one.object: one for one in accepted}


def told(one: Condition) -> tuple[str, str, str, str]:
    return one.status, one.reason, one.message, one.field


def limits(name: str, target: Document, count: int = 100, **spec: object) -> Document:
    rules = [{"name": "all", "limit": {"requests": count}}]
    return rate_limit_policy("shop", name, target, **{"http": {"rules": rules}, **spec})


def connections(name: str, target: Document, **spec: object) -> Document:
    limit = {"limit": {"connections": 5, "interval": "2s"}}
    return rate_limit_policy("shop", name, target, connections=limit, **spec)


def ports(*listed: Document, vip: str = some.VIP) -> list[Document]:
    """BASE with other ports on its Service."""
    service = manifests.service("shop", "cart", [vip])
    service["spec"]["ports"] = list(listed)
    return [*some.callers(), service, manifests.endpoint_slice("shop", "cart", [some.POD])]


HTTP = {"name": "http", "port": 80, "appProtocol": "http"}
TLS = {"name": "https", "port": 443}
BYTES = {"name": "db", "port": 5432}


@pytest.mark.parametrize("make", [traffic_policy, rate_limit_policy])
@pytest.mark.parametrize(
    ("target", "parent"),
    [
        (SERVICE, "Service shop/cart"),
        ({**SERVICE, "sectionName": "http"}, "Service shop/cart:http"),
        (ROUTE, "HTTPRoute shop/r"),
        ({**ROUTE, "sectionName": "canary"}, "HTTPRoute shop/r:canary"),
    ],
)
def test_each_target_gets_its_own_conditions(make: object, target: Document, parent: str) -> None:
    policy = limits("p", target) if make is rate_limit_policy else traffic_policy("shop", "p", target)
    found = [one for one in some.compiled(*BASE, policy)[1] if one.object == "shop/p"]
    assert [(one.parent, one.type, one.status) for one in found] == [
        (parent, "Accepted", "True"),
        (parent, "Programmed", "Unknown"),
    ]
    assert [one.status for one in programmed(found, 1)] == ["True", "True"]


@pytest.mark.parametrize(
    ("target", "field", "words"),
    [
        ({**SERVICE, "name": "gone"}, "spec.targetRefs[0].name", "Service shop/gone does not exist"),
        ({**SERVICE, "sectionName": "admin"}, "spec.targetRefs[0].sectionName", "has no TCP port named admin"),
        ({**ROUTE, "name": "gone"}, "spec.targetRefs[0].name", "HTTPRoute shop/gone does not exist"),
        ({**ROUTE, "sectionName": "0"}, "spec.targetRefs[0].sectionName", "has no rule named 0"),
    ],
)
def test_a_target_that_is_not_there_is_named(target: Document, field: str, words: str) -> None:
    found = said(*BASE, traffic_policy("shop", "t", target), limits("l", target))
    for one in found.values():
        assert (one.status, one.reason, one.field) == ("False", "TargetNotFound", field)
        assert words in one.message
        assert "takes effect when it does" in one.message


def test_a_rule_that_was_dropped_is_there_all_the_same() -> None:
    """It answers 500: its name is no mistake of the policy that targets it."""
    dropped = {"name": "odd", "filters": [{"type": "Later"}], "backendRefs": [{"name": "cart", "port": 80}]}
    route = manifests.http_route("shop", "r", "cart", [dropped])
    target = {**ROUTE, "sectionName": "odd"}
    found = said(*BASE[:-1], route, traffic_policy("shop", "t", target, **TIMEOUTS), limits("l", target))
    assert {key: one.reason for key, one in found.items()} == {"shop/t": "Accepted", "shop/l": "Accepted"}


def test_of_two_with_one_target_the_loser_is_told_who_won_and_why() -> None:
    """One that does not say when it was made is the youngest, as with routes."""
    undated, second, third, old = (traffic_policy("shop", name, SERVICE) for name in "abcd")
    second["metadata"]["creationTimestamp"] = third["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    old["metadata"]["creationTimestamp"] = "2025-12-31T23:00:00-01:00"  # the same moment, and no other one
    for winner, later, why in (
        (second, undated, "is older"),
        (old, undated, "is older"),
        (second, third, "comes first by name"),
        (third, old, "comes first by name"),
    ):
        found = said(*BASE, winner, later)
        won, lost = (f"shop/{one['metadata']['name']}" for one in (winner, later))
        words = f"TrafficPolicy {won} has the same target and {why}: only that one counts"
        assert told(found[lost]) == ("False", "Conflicted", words, "spec.targetRefs[0]")
        assert found[won].status == "True"


def test_policies_of_different_targets_or_modes_are_no_rivals() -> None:
    dry = traffic_policy("shop", "dry", SERVICE, mode="DryRun")
    policies = [dry, traffic_policy("shop", "a", SERVICE), traffic_policy("shop", "b", ROUTE)]
    assert {one.status for one in said(*BASE, *policies).values()} == {"True"}


def test_a_loser_is_in_force_for_its_other_targets() -> None:
    both = traffic_policy("shop", "z", SERVICE, ROUTE)
    found = some.compiled(*BASE, traffic_policy("shop", "a", SERVICE), both)[1]
    statuses = {one.parent: one.status for one in found if one.object == "shop/z" and one.type == "Accepted"}
    assert statuses == {"Service shop/cart": "False", "HTTPRoute shop/r": "True"}


def test_what_does_not_apply_to_a_port_that_is_not_http_is_said_with_the_port() -> None:
    spec = {**TIMEOUTS, "retry": {}}
    found = said(*ports(HTTP, TLS, BYTES), traffic_policy("shop", "t", SERVICE, **spec), limits("l", SERVICE))
    words = "calls of port 443 (tls), 5432 (tcp) are not plain HTTP/1 and go without"
    assert told(found["shop/t"]) == ("True", "Accepted", f"{words} timeouts, retry", "spec.targetRefs[0]")
    assert f"{words} http" in found["shop/l"].message
    assert said(*ports(HTTP), traffic_policy("shop", "t", SERVICE, **spec))["shop/t"].message == ""


def test_a_policy_that_has_nothing_to_read_is_not_accepted() -> None:
    found = said(*ports(TLS), traffic_policy("shop", "t", SERVICE, **TIMEOUTS), limits("l", SERVICE))
    words = "no port of Service shop/cart is plain HTTP/1 (443 (tls)), so there are no requests to treat"
    assert told(found["shop/t"]) == told(found["shop/l"]) == ("False", "Invalid", words, "spec.targetRefs[0]")
    assert said(*ports(TLS), connections("c", SERVICE))["shop/c"].status == "True"
    assert said(*ports(BYTES), traffic_policy("shop", "t", SERVICE))["shop/t"].status == "True"


def test_a_service_without_a_cluster_ip_is_reached_by_routes_only() -> None:
    base = ports(HTTP, vip="None")
    found = said(*base, traffic_policy("shop", "t", SERVICE, **TIMEOUTS), connections("c", SERVICE))
    words = "has no cluster IP: only requests that an HTTPRoute sends to it get timeouts"
    assert found["shop/t"].message == f"Service shop/cart {words}"
    assert (found["shop/c"].status, found["shop/c"].reason) == ("False", "Invalid")
    both = said(*base, connections("c", SERVICE, http={"rules": [{"name": "all", "limit": {"requests": 1}}]}))["shop/c"]
    assert both.status == "True"
    assert "connections to port 80 are not limited: there is no cluster IP to connect to" in both.message
    assert "connections: " not in both.message


def test_http_and_connections_are_nothing_where_neither_can_be_counted() -> None:
    http = {"rules": [{"name": "all", "limit": {"requests": 1}}]}
    found = said(*ports(TLS, vip="None"), connections("c", SERVICE, http=http))["shop/c"]
    assert (found.status, found.reason) == ("False", "Invalid")
    assert "no requests to treat" in found.message


def test_connections_of_a_service_without_a_tcp_port_are_none_to_limit() -> None:
    found = said(*ports({"name": "dns", "port": 53, "protocol": "UDP"}), connections("c", SERVICE))["shop/c"]
    assert told(found) == ("False", "Invalid", "Service shop/cart has no TCP port", "spec.targetRefs[0]")


def test_faults_without_the_agent_s_consent_are_left_out_and_say_how_to_get_it() -> None:
    policy = traffic_policy("shop", "t", SERVICE, faultInjection={"abort": {"status": 500, "percent": 1}})
    without = said(*BASE, policy)["shop/t"]
    assert without.status == "True"
    assert "--allow-fault-injection" in without.message
    assert without.field == "spec.faultInjection"
    assert said(*BASE, policy, allow_faults=True)["shop/t"].message == ""


def nodes(*names: str) -> list[Document]:
    pods = []
    for number, name in enumerate(names):
        pod = some.pod("other", f"p{number}", f"198.18.1.{number + 1}")
        pod["spec"]["nodeName"] = name
        pods.append(pod)
    return pods


def test_limits_say_what_they_come_to_on_the_nodes_that_there_are() -> None:
    message = said(*BASE, *nodes("a", "b", "c", "a"), limits("l", SERVICE))["shop/l"].message
    total = "100 per 1s burst 100 on each node, in all 300 per 1s burst 300 on 3 nodes"
    assert message == f"limits are per node; rule all: {total}"
    alone = said(*BASE, connections("c", SERVICE))["shop/c"].message
    assert alone == "limits are per node; connections: 5 per 2s burst 5 on each node, in all 5 per 2s burst 5 on 1 node"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"per": "Header", "header": "X-Key"}, " for each value of x-key"),
        ({"per": "ServiceAccount"}, " for each account"),
        ({"per": "SourceIP"}, " for each caller address"),
    ],
)
def test_limits_say_whose_they_are_on_one_node_and_on_all(rule: Document, words: str) -> None:
    one = {"name": "a", "limit": {"requests": 9, "interval": "1m", "burst": 20}, **rule}
    message = said(*BASE, *nodes("a", "b"), limits("l", ROUTE, http={"rules": [one]}))["shop/l"].message
    assert f"9 per 1m burst 20{words} on each node, in all 18 per 1m burst 40{words} on 2 nodes" in message


def test_only_one_policy_limits_the_connections_to_a_port() -> None:
    found = said(*BASE, connections("a", SERVICE), connections("b", SERVICE), limits("c", SERVICE))
    words = "connections to port 80 are limited by RateLimitPolicy shop/a instead"
    assert told(found["shop/b"]) == ("False", "Conflicted", words, "spec.targetRefs[0]")
    assert (found["shop/a"].status, found["shop/c"].status) == ("True", "True")
    rules = {"rules": [{"name": "all", "limit": {"requests": 1}}]}
    both = said(*BASE, connections("a", SERVICE), connections("b", SERVICE, http=rules))["shop/b"]
    assert (both.status, words in both.message) == ("True", True)
    partly = said(*ports(HTTP, TLS), connections("a", {**SERVICE, "sectionName": "http"}), connections("b", SERVICE))
    assert (partly["shop/b"].status, words in partly["shop/b"].message) == ("True", True)


def test_a_policy_that_never_was_good_has_no_effect_and_refuses_nothing() -> None:
    broken = traffic_policy("shop", "t", SERVICE, timeouts={"request": "soon"})
    objects = some.load({"base.yaml": some.text(*BASE), "t.yaml": some.text(broken)})[1]
    snapshot, conditions = compile_objects(objects, 1)
    one = some.condition(conditions, "Accepted", "shop/t")
    assert (one.status, one.reason, one.field) == ("False", "Invalid", "spec.timeouts.request")
    assert one.message.endswith("it was never good, so it has no effect")
    assert some.ask(snapshot, "shop/web").status == 0


def test_limits_of_a_namespace_conflict_too() -> None:
    target = {"kind": "Namespace", "name": "shop"}
    found = said(*BASE, *(traffic_policy("shop", name, target, limits={"maxConnections": 1}) for name in "ab"))
    assert [(key, one.reason, one.parent) for key, one in sorted(found.items())] == [
        ("shop/a", "Accepted", "Namespace shop"),
        ("shop/b", "Conflicted", "Namespace shop"),
    ]
