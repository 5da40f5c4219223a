"""HTTPRoutes on Services: who a route applies to, in which order, and what a backend that cannot serve answers."""

from __future__ import annotations

import pytest

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.conditions import ACCEPTED, PROGRAMMED, RESOLVED_REFS
from nodeagent.config.patterns import MAX_PATTERNS
from nodeagent.config.routes import KIND
from nodeagent.core.model import Protocol
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document, backend

V1, V2 = "198.18.0.21", "198.18.0.22"


def backends() -> list[Document]:
    return [*some.service("v1", "198.19.0.21", V1), *some.service("v2", "198.19.0.22", V2)]


def route(
    name: str, rules: list[Document], *, namespace: str = "shop", port: int | None = None, created: str = ""
) -> Document:
    one = manifests.http_route(namespace, name, "cart", rules, port=port)
    one["spec"]["parentRefs"][0]["namespace"] = "shop"
    if created:
        one["metadata"]["creationTimestamp"] = created
    return one


def to(service: str, match: Document | None = None, *, namespace: str = "shop") -> Document:
    rule: Document = {"backendRefs": [{**backend(service, 1), "namespace": namespace}]}
    return rule | ({"matches": [match]} if match else {})


def prefix(path: str) -> Document:
    return {"path": {"type": "PathPrefix", "value": path}}


BASE = [*some.callers(), *some.service("cart"), *backends()]


def backend_of(caller: str, *routes: Document, path: str = "/", method: str = "GET") -> str:
    return some.ask(some.snapshot(*BASE, *routes), caller, request=some.head(path, method, headers={"x": "1"})).backend


def test_without_a_route_requests_pass_to_the_services_own_endpoints() -> None:
    decision = some.ask(some.snapshot(*BASE), "shop/web")
    assert (decision.status, decision.endpoint and decision.endpoint.address) == (0, some.POD)


def test_a_route_that_matches_nothing_makes_it_404() -> None:
    snap = some.snapshot(*BASE, route("r", [to("v1", prefix("/only"))]))
    assert some.ask(snap, "shop/web").status == 404
    assert some.ask(snap, "shop/web", request=some.head("/only/this")).backend == "shop/v1:80"


def test_a_producer_route_is_for_every_caller() -> None:
    for caller in ("shop/web", "batch/job"):
        assert backend_of(caller, route("r", [to("v1")])) == "shop/v1:80"


def test_a_consumer_route_is_for_its_own_namespace_and_replaces_the_producers_rules() -> None:
    routes = [
        route("producer", [to("v1", prefix("/longer/than/the/consumer"))]),
        route("consumer", [to("v2", prefix("/c"))], namespace="batch"),
    ]
    assert backend_of("batch/job", *routes, path="/c") == "shop/v2:80"
    snap = some.snapshot(*BASE, *routes)
    assert some.ask(snap, "batch/job", request=some.head("/longer/than/the/consumer")).status == 404
    assert some.ask(snap, "shop/web", request=some.head("/c")).status == 404


def test_a_consumer_route_alone_leaves_other_callers_without_routes() -> None:
    assert backend_of("shop/web", route("c", [to("v2")], namespace="batch")) == "shop/cart:80"


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        ({"path": {"type": "Exact", "value": "/a/b"}}, prefix("/a/b")),
        (prefix("/a/b"), prefix("/a")),
        (prefix("/a"), {**prefix("/"), "method": "GET"}),
        ({**prefix("/a"), "method": "GET"}, {**prefix("/a"), "headers": [{"name": "x", "value": "1"}]}),
        ({**prefix("/a"), "headers": [{"name": "X", "value": "1"}]}, prefix("/a")),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_more_specific_match_wins_wherever_it_is_written(winner: Document, loser: Document, swapped: bool) -> None:
    first, second = [to("v1", winner)], [to("v2", loser)]
    assert (
        backend_of("shop/web", route("r", second + first if swapped else first + second), path="/a/b") == "shop/v1:80"
    )
    names = ("a", "b") if swapped else ("b", "a")
    assert backend_of("shop/web", route(names[0], first), route(names[1], second), path="/a/b") == "shop/v1:80"


def test_of_equal_matches_the_oldest_route_wins_then_the_name_then_the_position() -> None:
    old = "2026-01-01T01:00:00+02:00"  # earlier than the next one, though its text is greater
    new = "2026-01-01T00:00:00Z"
    assert (
        backend_of("shop/web", route("a", [to("v1")], created=new), route("b", [to("v2")], created=old)) == "shop/v2:80"
    )
    assert backend_of("shop/web", route("a", [to("v1")]), route("b", [to("v2")], created=new)) == "shop/v2:80"
    assert backend_of("shop/web", route("b", [to("v2")]), route("a", [to("v1")])) == "shop/v1:80"
    assert backend_of("shop/web", route("a", [to("v1"), to("v2")])) == "shop/v1:80"


def test_weights_share_the_requests() -> None:
    rule = {"backendRefs": [backend("v1", 80), backend("v2", 20), backend("cart", 0)]}
    snap = some.snapshot(*BASE, route("r", [rule]))
    chosen = [some.ask(snap, "shop/web", rand=number / 1000).backend for number in range(1000)]
    assert {name: chosen.count(name) for name in set(chosen)} == {"shop/v1:80": 800, "shop/v2:80": 200}


def test_a_missing_service_is_not_broken_and_its_share_gets_500() -> None:
    documents = [*BASE, route("r", [{"backendRefs": [backend("v1", 3), backend("gone", 1)]}])]
    snap, conditions = some.compiled(*documents)
    assert some.statuses(snap, "shop/web") == {0: 75, 500: 25}
    assert some.condition(conditions, ACCEPTED, "shop/r").status == "True"
    resolved = some.condition(conditions, RESOLVED_REFS, "shop/r")
    assert (resolved.status, resolved.reason) == ("False", "BackendNotFound")
    assert resolved.field == "spec.rules[0].backendRefs[1]"
    assert "Service shop/gone does not exist; its share is answered 500" in resolved.message
    assert some.condition(conditions, PROGRAMMED, "shop/r").status == "Unknown"


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ({"name": "v1", "port": 81}, "BackendNotFound"),
        ({"name": "x", "kind": "Bucket", "group": "example.com"}, "InvalidKind"),
        ({"name": "v1", "port": 80, "namespace": "batch"}, "BackendNotFound"),
        ({"name": "secure", "port": 443}, "UnsupportedProtocol"),
    ],
)
def test_a_backend_that_can_never_serve_gets_500(reference: Document, reason: str) -> None:
    secure = manifests.service("shop", "secure", ["198.19.0.30"], port=443, port_name="https", app_protocol=None)
    snap, conditions = some.compiled(*BASE, secure, route("r", [{"backendRefs": [reference]}]))
    assert some.ask(snap, "shop/web").status == 500
    assert some.condition(conditions, RESOLVED_REFS, "shop/r").reason == reason


@pytest.mark.parametrize("rule", [{}, {"backendRefs": []}, {"backendRefs": [backend("v1", 0)]}])
def test_a_rule_without_a_backend_of_any_weight_gets_500(rule: Document) -> None:
    assert some.ask(some.snapshot(*BASE, route("r", [rule])), "shop/web").status == 500


def test_a_backend_without_a_ready_endpoint_gets_503() -> None:
    empty = some.service("empty", "198.19.0.40", "")
    snap = some.snapshot(*BASE, *empty, route("r", [{"backendRefs": [backend("v1", 1), backend("empty", 1)]}]))
    assert some.statuses(snap, "shop/web") == {0: 50, 503: 50}


def test_a_parent_with_a_port_is_that_port_only_and_without_one_all() -> None:
    cart = manifests.service("shop", "cart", [some.VIP])
    cart["spec"]["ports"].append({"name": "http-admin", "port": 81, "targetPort": 8081})
    for port, expected in ((None, {80, 81}), (81, {81})):
        snap = some.snapshot(*some.callers(), cart, route("r", [to("cart")], port=port))
        assert {one.port for one in snap.destinations.values() if one.has_producer_route} == expected


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"name": "gone"}, "NoMatchingParent", "spec.parentRefs[0].name"),
        ({"port": 90}, "NoMatchingParent", "spec.parentRefs[0]"),
        ({"sectionName": "other"}, "NoMatchingParent", "spec.parentRefs[0]"),
    ],
)
def test_a_parent_that_does_not_fit_is_not_accepted(change: Document, reason: str, field: str) -> None:
    one = route("r", [to("v1")])
    one["spec"]["parentRefs"][0].update(change)
    snap, conditions = some.compiled(*BASE, one)
    accepted = some.condition(conditions, ACCEPTED, "shop/r")
    assert (accepted.status, accepted.reason, accepted.field) == ("False", reason, field)
    assert not any(destination.has_routes for destination in snap.destinations.values())


def test_a_route_to_a_port_that_is_not_http_is_refused_aloud() -> None:
    database = manifests.service("shop", "cart", [some.VIP], port_name="tcp-db", app_protocol=None)
    accepted = some.condition(some.compiled(*some.callers(), database, route("r", [to("cart")]))[1], ACCEPTED, "shop/r")
    assert (accepted.status, accepted.reason) == ("False", "UnsupportedValue")
    assert "set appProtocol: http" in accepted.message


def test_parents_of_other_controllers_are_none_of_our_business() -> None:
    one = route("r", [to("v1")])
    one["spec"]["parentRefs"] = [
        {"name": "cart"},
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"},
    ]
    snap, conditions = some.compiled(*BASE, one)
    assert not conditions
    assert not any(destination.has_routes for destination in snap.destinations.values())


def test_hostnames_are_ignored_and_said_to_be() -> None:
    one = route("r", [to("v1")])
    one["spec"]["hostnames"] = ["other.example"]
    snap, conditions = some.compiled(*BASE, one)
    assert some.ask(snap, "shop/web").backend == "shop/v1:80"
    assert some.condition(conditions, ACCEPTED, "shop/r").field == "spec.hostnames"


def test_a_port_that_says_nothing_is_opaque_but_may_be_a_backend() -> None:
    plain = manifests.service("shop", "plain", ["198.19.0.50"], port_name="web", app_protocol=None)
    documents = [*BASE, plain, manifests.endpoint_slice("shop", "plain", [V1], port_name="web")]
    snap = some.snapshot(*documents, route("r", [to("plain")]))
    assert snap.destinations["198.19.0.50", 80].protocol is Protocol.OPAQUE
    assert some.ask(snap, "shop/web").backend == "shop/plain:80"


DENY_BATCH: Document = {"sources": [{"namespace": "batch"}]}


@pytest.mark.parametrize("route_namespace", ["shop", "batch"])
def test_a_route_leads_past_no_policy_of_the_service_it_leads_to(route_namespace: str) -> None:
    """What dialling v1 is denied, dialling cart is denied, though cart has no policy."""
    deny = some.policy("p", "DENY", [DENY_BATCH], service="v1", level="Network")
    snap = some.snapshot(*BASE, route("r", [to("v1")], namespace=route_namespace), deny)
    assert some.ask(snap, "batch/job", ("198.19.0.21", 80)).policy == "shop/p"
    denied = some.ask(snap, "batch/job")
    assert (denied.status, denied.policy, denied.backend) == (403, "shop/p", "shop/v1:80")
    assert some.ask(snap, "shop/web").status == 0


def test_a_backend_has_the_policies_of_every_service_and_namespace_that_own_its_endpoints() -> None:
    alias = some.service("alias", "198.19.0.60", V1, namespace="batch")
    policies = [
        some.policy("p", "DENY", [DENY_BATCH], service="v1", level="Network"),
        some.namespace_policy("batch", "q", "DENY", [{"sources": [{"namespace": "nobody"}]}]),
        some.namespace_policy("pods", "r", "DENY", [{"sources": [{"namespace": "nobody"}]}]),
    ]
    resident = [manifests.namespace("pods"), some.pod("pods", "v1", V1)]
    one = route("r", [to("alias", namespace="batch")])
    (rule,) = some.snapshot(*BASE, *alias, *policies, *resident, one).destinations[some.VIP, 80].producer_rules
    (only,) = rule.backends
    assert [policy.name for policy in only.policies] == ["batch/q", "pods/r", "shop/p"]
    assert only.ports == (80, 8080)


def test_a_broken_policy_of_a_backend_refuses_its_share() -> None:
    broken = some.policy("p", "DENY", [{"sources": [{"cidr": "ten"}]}], service="v1")
    rule = {"backendRefs": [backend("v1", 1), backend("v2", 1)]}
    _, found = some.load({"all.yaml": some.text(*BASE, route("r", [rule]), broken)})
    snap, _ = compile_objects(found, 1)
    assert some.statuses(snap, "shop/web") == {0: 50, 403: 50}
    assert "is broken" in some.ask(snap, "shop/web").detail


def test_http_rules_of_an_undeclared_backend_are_judged_where_the_route_reads_http() -> None:
    """Dialled itself, v1 is refused as a whole: nobody reads HTTP on its port.  Behind cart somebody does."""
    v1 = manifests.service("shop", "v1", ["198.19.0.21"], port_name="web", app_protocol=None)
    documents = [*some.callers(), *some.service("cart"), v1]
    documents.append(manifests.endpoint_slice("shop", "v1", [V1], port_name="web"))
    deny = some.policy("p", "DENY", [{"http": {"methods": ["DELETE"]}}], service="v1")
    snap = some.snapshot(*documents, route("r", [to("v1")]), deny)
    assert snap.destinations["198.19.0.21", 80].refuse
    assert some.ask(snap, "shop/web").status == 0
    assert some.ask(snap, "shop/web", request=some.head(method="DELETE")).policy == "shop/p"


def patterns(name: str, count: int, *, created: str = "", namespace: str = "shop") -> Document:
    """A route with `count` regular expressions, of all three kinds."""
    regex = {"type": "RegularExpression"}
    matches: list[Document] = [{"path": {**regex, "value": f"/{name}/{n}/.*"}} for n in range(count - 2)]
    field = {**regex, "name": "x-a", "value": name}
    matches.append({**prefix("/"), "headers": [field], "queryParams": [{**field, "name": "a"}]})
    parts = [matches[start : start + 64] for start in range(0, len(matches), 64)]
    return route(name, [{**to("v1"), "matches": part} for part in parts], namespace=namespace, created=created)


def accepted(*routes: Document) -> dict[str, tuple[str, str]]:
    """Route -> status and reason."""
    _, conditions = some.compiled(*BASE, *routes)
    return {one.object: (one.status, one.reason) for one in conditions if one.kind == KIND and one.type == ACCEPTED}


def test_the_newest_routes_are_refused_that_bring_too_many_regular_expressions_to_a_service() -> None:
    old, new = "2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z"
    fitting = [patterns("b", 100, created=old), patterns("a", MAX_PATTERNS - 100, created=new)]
    assert set(accepted(*fitting).values()) == {("True", "Accepted")}
    crowd = [patterns("b", 100, created=old), patterns("a", MAX_PATTERNS - 99, created=new)]
    assert accepted(*crowd) == {"shop/b": ("True", "Accepted"), "shop/a": ("False", "UnsupportedValue")}
    snap = some.snapshot(*BASE, *crowd)
    assert some.ask(snap, "shop/web", request=some.head("/b/0/x")).route == "shop/b"
    assert some.ask(snap, "shop/web", request=some.head("/a/0/x")).status == 404


def test_a_refused_route_says_how_many_regular_expressions_there_are_and_takes_no_room() -> None:
    crowd = [patterns("a", 100), patterns("b", 29), patterns("c", 28)]
    _, conditions = some.compiled(*BASE, *crowd)
    refused = next(one for one in conditions if one.kind == KIND and one.type == ACCEPTED and one.status == "False")
    assert (refused.object, refused.field) == ("shop/b", "spec.rules")
    assert "has 29 RegularExpression matches" in refused.message
    assert refused.message.startswith("not attached, and calls are served as if the route was not there")
    assert "have 100" in refused.message


def test_a_route_that_is_one_pattern_too_many_changes_nothing_for_calls_that_were_served() -> None:
    """Alone on its Service it leaves calls unrouted; as a consumer route it leaves them to the producer's."""
    alone = some.snapshot(*BASE, patterns("a", MAX_PATTERNS + 1))
    assert (some.ask(alone, "shop/web").status, some.ask(alone, "shop/web").route) == (0, "")
    crowd = [route("p", [to("v1")]), patterns("c", MAX_PATTERNS + 1, namespace="batch")]
    assert some.ask(some.snapshot(*BASE, *crowd), "batch/job").route == "shop/p"


def test_regular_expressions_are_counted_apart_for_namespaces_with_routes_of_their_own() -> None:
    routes = [patterns("a", MAX_PATTERNS), patterns("a", MAX_PATTERNS, namespace="batch")]
    assert set(accepted(*routes).values()) == {("True", "Accepted")}


def test_a_route_that_names_a_service_twice_is_counted_once() -> None:
    twice = patterns("a", MAX_PATTERNS)
    (parent,) = twice["spec"]["parentRefs"]
    without = {name: value for name, value in parent.items() if name != "namespace"}  # the same, to us
    twice["spec"]["parentRefs"] = [parent, without]
    assert set(accepted(twice).values()) == {("True", "Accepted")}
