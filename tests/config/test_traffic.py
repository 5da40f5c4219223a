"""Which TrafficPolicy and RateLimitPolicies a request meets: rank, conflict, dry run, pods of a namespace."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.config.compile import compile as compile_objects
from nodeagent.core.model import Protocol, Rung, Treatment
from nodeagent.core.traffic import ConnectionRate, FaultInjection, Limit, Mode, PodLimits
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document, rate_limit_policy, traffic_policy

SERVICE: Document = {"group": "", "kind": "Service", "name": "cart"}
BACKEND: Document = {**SERVICE, "name": "v1"}
ROUTE: Document = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}
RANKED: list[Document] = [
    {**ROUTE, "sectionName": "canary"},
    ROUTE,
    {**BACKEND, "sectionName": "http"},
    BACKEND,
    {**SERVICE, "sectionName": "http"},
    SERVICE,
]
"""From the most specific target to the least."""
NAMES = ["rule", "route", "backend-port", "backend", "port", "service"]
BASE = [*some.callers(), *some.service("cart"), *some.service("v1", some.OTHER_VIP, some.OTHER_POD)]
RULE: Document = {"name": "canary", "backendRefs": [{"name": "v1", "port": 80}]}
TO_V1 = manifests.http_route("shop", "r", "cart", [RULE])


def traffic(name: str, target: Document, *, created: str = "", **spec: object) -> Document:
    one = traffic_policy("shop", name, target, **spec)
    if created:
        one["metadata"]["creationTimestamp"] = created
    return one


def limits(name: str, target: Document, **spec: object) -> Document:
    rule = {"name": "all", "limit": {"requests": 9}}
    return rate_limit_policy("shop", name, target, **{"http": {"rules": [rule]}, **spec})


def met(*documents: Document, caller: str = "shop/web") -> Treatment:
    """What a request to cart meets; a treatment with nothing in it stands for none."""
    return some.ask(some.snapshot(*BASE, *documents), caller).treatment or Treatment("")


def names(treatment: Treatment) -> tuple[str, str]:
    """Of the enforced policy and of the one in DryRun, without their namespace."""
    found = (treatment.traffic, treatment.shadow)
    enforced, shadow = (one.name.removeprefix("shop/") if one else "" for one in found)
    return enforced, shadow


# ---- the rank ----


@pytest.mark.parametrize("lacking", range(len(RANKED)))
def test_the_most_specific_target_wins_whole(lacking: int) -> None:
    """With the first `lacking` ranks gone, the next one decides alone: nothing is merged from those below."""
    ranked = list(zip(NAMES, RANKED, strict=True))[lacking:]
    policies = [traffic(name, target, timeouts={"request": f"{n + 1}s"}) for n, (name, target) in enumerate(ranked)]
    policies[-1]["spec"]["retry"] = {"attempts": 9}
    treatment = met(TO_V1, *policies)
    assert names(treatment) == (NAMES[lacking], "")
    assert treatment.traffic is not None
    assert treatment.traffic.timeouts.request == 1000
    assert (treatment.traffic.retry is None) == (len(ranked) > 1)
    assert (treatment.backend, treatment.endpoints[0].address) == ("shop/v1:80", some.OTHER_POD)


@pytest.mark.parametrize(("name", "target"), list(zip(NAMES, RANKED, strict=True)))
def test_without_a_route_only_the_service_that_is_dialled_counts(name: str, target: Document) -> None:
    assert names(met(traffic(name, target))) == (name if name in ("port", "service") else "", "")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_the_manifests_does_not_matter(order: tuple[int, ...]) -> None:
    policies = [traffic(NAMES[rank], RANKED[rank]) for rank in (1, 3, 5)]
    assert names(met(TO_V1, *(policies[index] for index in order))) == ("route", "")


def test_other_ports_other_rules_and_other_namespaces_are_not_meant() -> None:
    other_port, other_rule = {**SERVICE, "sectionName": "admin"}, {**ROUTE, "sectionName": "stable"}
    elsewhere = traffic_policy("batch", "far", SERVICE)
    assert met(TO_V1, traffic("a", other_port), traffic("b", other_rule), elsewhere) == Treatment("")


def test_a_rule_without_a_name_cannot_be_meant_by_its_number() -> None:
    unnamed = manifests.http_route("shop", "r", "cart", [{"backendRefs": RULE["backendRefs"]}])
    assert met(unnamed, traffic("a", {**ROUTE, "sectionName": "0"})) == Treatment("")


def test_a_consumer_route_gets_the_policies_of_its_own_namespace() -> None:
    consumer = manifests.http_route("batch", "r", "cart", [{**RULE, "backendRefs": [{**RULE["backendRefs"][0]}]}])
    consumer["spec"]["parentRefs"][0]["namespace"] = "shop"
    consumer["spec"]["rules"][0]["backendRefs"][0]["namespace"] = "shop"
    own = traffic_policy("batch", "own", ROUTE)
    producers = traffic("producers", ROUTE)
    assert met(TO_V1, consumer, own, producers, caller="batch/job").traffic.name == "batch/own"  # type: ignore[union-attr]
    assert names(met(TO_V1, consumer, own, producers)) == ("producers", "")
    assert names(met(TO_V1, consumer, producers, traffic("s", SERVICE), caller="batch/job")) == ("s", "")


# ---- conflict and dry run ----

OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:30"


@pytest.mark.parametrize(
    ("created", "winner"),
    [((OLD, OLD), "a"), ((OLD, NEW), "b"), ((NEW, OLD), "a"), (("", ""), "a"), (("", OLD), "b"), ((OLD, ""), "a")],
)
def test_of_two_with_the_same_target_the_older_wins_then_the_name(created: tuple[str, str], winner: str) -> None:
    """NEW is later on its clock, and earlier in UTC."""
    pair = [traffic(name, SERVICE, created=when) for name, when in zip("ab", created, strict=True)]
    assert names(met(*pair)) == (winner, "")


AGES = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "")  # from the oldest to the youngest
policies = st.lists(
    st.tuples(st.integers(0, len(RANKED) - 1), st.sampled_from(("Enforce", "DryRun")), st.sampled_from(AGES)),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(policies)
def test_the_choice_is_that_of_a_plain_sort_by_rank_age_and_name(chosen: list[tuple[int, str, str]]) -> None:
    listed = [(rank, AGES.index(age), f"p{number}", mode) for number, (rank, mode, age) in enumerate(chosen)]
    documents = [traffic(name, RANKED[rank], created=AGES[age], mode=mode) for rank, age, name, mode in listed]
    first = {mode: name for _, _, name, mode in sorted(listed, reverse=True)}
    assert names(met(TO_V1, *documents)) == (first.get("Enforce", ""), first.get("DryRun", ""))


def test_a_policy_in_dry_run_hides_none_that_is_enforced_nor_the_other_way_round() -> None:
    dry, enforced = traffic("dry", ROUTE, mode="DryRun"), traffic("all", SERVICE)
    assert names(met(TO_V1, dry, enforced)) == ("all", "dry")
    assert names(met(TO_V1, dry)) == ("", "dry")
    older = traffic("a", SERVICE, created=OLD, mode="DryRun")
    assert names(met(older, traffic("b", SERVICE))) == ("b", "a")


def test_a_policy_brings_a_service_without_routes_to_the_proxy_and_only_where_http_is_read() -> None:
    for policy in (traffic("a", SERVICE), traffic("a", SERVICE, mode="DryRun"), limits("a", SERVICE)):
        assert some.snapshot(*BASE, policy).destinations[some.VIP, 80].rung is Rung.PROXY
        opaque = manifests.service("shop", "cart", [some.VIP], app_protocol="tcp")
        front = some.snapshot(*BASE[:4], opaque, *BASE[5:], policy).destinations[some.VIP, 80]
        assert (front.protocol, front.is_plain, front.rung) == (Protocol.OPAQUE, True, Rung.DIRECT)


def test_a_backend_that_cannot_serve_is_treated_by_nobody() -> None:
    gone = manifests.http_route("shop", "r", "cart", [{"backendRefs": [{"name": "gone", "port": 80}]}])
    snap = some.snapshot(*BASE, gone, traffic("s", SERVICE), traffic("r", ROUTE))
    (backend,) = snap.destinations[some.VIP, 80].producer_rules[0].backends
    assert (backend.traffic, bool(backend.error)) == (None, True)


def test_a_backend_whose_port_says_nothing_is_taken_for_http() -> None:
    v1 = [manifests.service("shop", "v1", [some.OTHER_VIP], app_protocol="tcp"), BASE[-1]]
    snap = some.snapshot(*BASE[:-2], *v1, TO_V1, traffic("b", BACKEND), limits("l", BACKEND))
    treatment = some.ask(snap, "shop/web").treatment
    assert treatment is not None
    assert names(treatment) == ("b", "")
    assert [one.name for one in treatment.rate_limits] == ["shop/l"]


def test_faults_are_injected_only_by_an_agent_that_was_told_so() -> None:
    found = some.objects(*BASE, traffic("a", SERVICE, faultInjection={"abort": {"status": 500, "percent": 5}}))
    for allowed, expected in ((True, FaultInjection(abort_status=500, abort_percent=5.0)), (False, None)):
        policy = compile_objects(found, 1, allow_faults=allowed)[0].destinations[some.VIP, 80].traffic
        assert policy is not None
        assert policy.fault_injection == expected
        assert policy.faults_left_out is not allowed
    without = some.objects(*BASE, traffic("a", SERVICE))
    policy = compile_objects(without, 1)[0].destinations[some.VIP, 80].traffic
    assert policy is not None
    assert not policy.faults_left_out


# ---- rate limits ----


def test_rate_limits_of_service_route_rule_and_backend_add_up_each_once() -> None:
    policies = [limits(name, target) for name, target in zip(NAMES, RANKED, strict=True)]
    treatment = met(TO_V1, *policies)
    found = [one.name.removeprefix("shop/") for one in treatment.rate_limits]
    assert sorted(found) == sorted(NAMES)
    to_itself = manifests.http_route("shop", "r", "cart", [{"backendRefs": [{"name": "cart", "port": 80}]}])
    assert [one.name for one in met(to_itself, limits("l", SERVICE)).rate_limits] == ["shop/l"]
    assert [one.name for one in met(*policies).rate_limits] == ["shop/port", "shop/service"]


def test_an_answer_of_our_own_counts_against_the_limits_of_its_rule() -> None:
    redirect = {"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}
    route = manifests.http_route("shop", "r", "cart", [{"name": "canary", "filters": [redirect]}])
    treatment = met(route, limits("rule", RANKED[0]), limits("service", SERVICE), traffic("t", ROUTE))
    assert [one.name for one in treatment.rate_limits] == ["shop/service", "shop/rule"]
    assert treatment.traffic is None


def connections(name: str, target: Document, count: int, **spec: object) -> Document:
    return rate_limit_policy("shop", name, target, connections={"limit": {"connections": count}}, **spec)


def test_one_limit_of_connections_a_port_the_enforced_then_the_most_specific() -> None:
    port = {**SERVICE, "sectionName": "http"}

    def rate(*policies: Document) -> ConnectionRate | None:
        return some.snapshot(*BASE, *policies).destinations[some.VIP, 80].connection_rate

    assert rate(connections("s", SERVICE, 1), connections("p", port, 2)) == ConnectionRate("shop/p", Limit(2, 1000, 2))
    dry = connections("p", port, 2, mode="DryRun")
    assert rate(connections("s", SERVICE, 1), dry) == ConnectionRate("shop/s", Limit(1, 1000, 1))
    assert rate(dry) == ConnectionRate("shop/p", Limit(2, 1000, 2), Mode.DRY_RUN)


def test_connections_are_limited_whatever_the_port_carries_and_without_the_proxy() -> None:
    opaque = manifests.service("shop", "cart", [some.VIP], app_protocol="tcp")
    for service in (BASE[4], opaque):
        front = some.snapshot(*BASE[:4], service, *BASE[5:], connections("c", SERVICE, 1)).destinations[some.VIP, 80]
        assert front.connection_rate is not None
        assert (front.rate_limits, front.rung) == ((), Rung.DIRECT)


# ---- pods of a namespace ----


def test_limits_reach_the_pods_of_their_namespace_and_no_others() -> None:
    target = {"kind": "Namespace", "name": "shop"}
    enforced = traffic("a", target, limits={"maxConnections": 10})
    dry = traffic("b", target, mode="DryRun", limits={"maxConnections": 5})
    pods = some.snapshot(*BASE, enforced, dry).workloads
    assert (pods["shop/web"].limits, pods["shop/web"].shadow_limits) == (
        PodLimits("shop/a", 10),
        PodLimits("shop/b", 5),
    )
    assert (pods["batch/job"].limits, pods["batch/job"].shadow_limits) == (None, None)
    later = traffic("c", target, limits={"maxConnections": 1})
    assert some.snapshot(*BASE, enforced, later).workloads["shop/web"].limits == PodLimits("shop/a", 10)
