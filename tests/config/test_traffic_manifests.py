"""TrafficPolicy and RateLimitPolicy manifests: what they become, and which field is named when one is broken."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.config.quantities import byte_count
from nodeagent.config.resources import RateLimitObject, TargetRef, TrafficObject
from nodeagent.core.traffic import (
    Balancing,
    CircuitBreaker,
    ConnectionRate,
    FaultInjection,
    HashOn,
    Limit,
    LoadBalancer,
    Mode,
    OutlierDetection,
    Per,
    PodLimits,
    PolicyTimeouts,
    RateLimitPolicy,
    RateLimitRule,
    Retry,
    RetryBudget,
    SuccessRate,
    TrafficPolicy,
)
from tests.config import builders as some
from tests.testbed.manifests import Document, rate_limit_policy, traffic_policy

SERVICE: Document = {"group": "", "kind": "Service", "name": "cart"}
ROUTE: Document = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r", "sectionName": "canary"}
OWN: Document = {"kind": "Namespace", "name": "shop"}


def traffic(**spec: Any) -> TrafficObject:
    return some.objects(traffic_policy("shop", "p", SERVICE, **spec)).traffic["shop/p"]


def limits(**spec: Any) -> RateLimitObject:
    return some.objects(rate_limit_policy("shop", "p", SERVICE, **spec)).rate_limits["shop/p"]


def problems(document: Document) -> list[tuple[str, str]]:
    """(field below spec, message) of everything wrong with a policy, which then is not in force."""
    found = some.load({"p.yaml": some.text(document)})[1]
    assert (found.traffic, found.rate_limits) == ({}, {})
    return [(problem.field.removeprefix("spec").lstrip("."), problem.message) for problem in found.problems]


# ---- what is accepted ----


def test_a_traffic_policy_that_says_nothing_asks_for_nothing() -> None:
    assert traffic().policy == TrafficPolicy("shop/p")
    assert traffic().limits is None


def test_a_traffic_policy_that_names_everything_is_read_whole() -> None:
    found = traffic(
        mode="DryRun",
        timeouts={"connect": "1s", "idle": "1m", "request": "5s", "backendRequest": "2s"},
        retry={
            "attempts": 3,
            "codes": [500, 503],
            "onConnectFailure": False,
            "backoff": "100ms",
            "perTryTimeout": "1500ms",
            "budget": {"percent": 50, "interval": "20s", "minRetryRate": {"count": 5, "interval": "2s"}},
        },
        circuitBreaker={
            "maxConnections": 1,
            "maxPendingRequests": 0,
            "maxParallelRequests": 3,
            "maxParallelRetries": 4,
        },
        outlierDetection={
            "consecutive5xxErrors": 1,
            "consecutiveGatewayErrors": 2,
            "consecutiveLocalOriginFailures": 0,
            "successRate": {"minimumHosts": 3, "requestVolume": 50, "stdevFactor": 1000},
            "interval": "5s",
            "baseEjectionTime": "10s",
            "maxEjectionTime": "1m",
            "maxEjectionPercent": 50,
        },
        loadBalancer={"type": "RingHash", "hash": {"type": "Header", "header": {"name": "X-User"}}},
        faultInjection={
            "delay": {"duration": "100ms", "percent": 0.5},
            "abort": {"status": 418, "percent": 100},
        },
    )
    assert found.policy == TrafficPolicy(
        name="shop/p",
        mode=Mode.DRY_RUN,
        timeouts=PolicyTimeouts(1000, 60_000, 5000, 1500),
        retry=Retry(3, frozenset({500, 503}), False, 100, RetryBudget(50, 20_000, 5, 2000)),
        circuit_breaker=CircuitBreaker(1, 0, 3, 4),
        outlier_detection=OutlierDetection(1, 2, 0, SuccessRate(3, 50, 1000), 5000, 10_000, 60_000, 50),
        load_balancer=LoadBalancer(Balancing.RING_HASH, HashOn.HEADER, "x-user"),
        fault_injection=FaultInjection(100, 0.5, 418, 100.0),
    )


def test_what_is_left_out_has_its_documented_default() -> None:
    policy = traffic(retry={}, circuitBreaker={}, outlierDetection={"successRate": {}}).policy
    assert policy.retry == Retry(1, frozenset({502, 503, 504}), True, 25, RetryBudget(20, 10_000, 10, 1000))
    assert policy.circuit_breaker == CircuitBreaker(None, None, None, None)
    rate = SuccessRate(5, 100, 1900)
    assert policy.outlier_detection == OutlierDetection(5, 0, 5, rate, 10_000, 30_000, 300_000, 10)


@pytest.mark.parametrize(
    ("backend", "per_try", "expected"),
    [("2s", "1s", 1000), ("1s", "2s", 1000), ("0s", "2s", 2000), ("2s", "0s", 2000), ("0s", "0s", 0), (None, None, 0)],
)
def test_the_shorter_time_of_a_try_counts(backend: str | None, per_try: str | None, expected: int) -> None:
    found = traffic(timeouts={"backendRequest": backend}, retry={"perTryTimeout": per_try})
    assert found.policy.timeouts == PolicyTimeouts(per_try=expected)


def test_a_first_ejection_may_be_longer_than_the_default_longest() -> None:
    found = traffic(outlierDetection={"baseEjectionTime": "10m"}).policy.outlier_detection
    assert found == OutlierDetection(base_ejection_time=600_000, max_ejection_time=600_000)


@pytest.mark.parametrize(
    ("hashed", "expected"),
    [
        ({"type": "SourceIP"}, LoadBalancer(Balancing.RING_HASH, HashOn.SOURCE_IP)),
        (
            {"type": "Cookie", "cookie": {"name": "Sid", "ttl": "1h", "path": "/x"}},
            LoadBalancer(Balancing.RING_HASH, HashOn.COOKIE, "Sid", 3_600_000, "/x"),
        ),
        ({"type": "Cookie", "cookie": {"name": "s"}}, LoadBalancer(Balancing.RING_HASH, HashOn.COOKIE, "s", 0, "/")),
    ],
)
def test_a_ring_hashes_what_it_is_told(hashed: Document, expected: LoadBalancer) -> None:
    assert traffic(loadBalancer={"type": "RingHash", "hash": hashed}).policy.load_balancer == expected


@pytest.mark.parametrize("kind", ["Random", "RoundRobin", "LeastRequest", "PeakEWMA"])
def test_other_balancers_need_nothing_more(kind: str) -> None:
    assert traffic(loadBalancer={"type": kind}).policy.load_balancer == LoadBalancer(Balancing(kind))


def test_targets_keep_their_sections() -> None:
    found = some.objects(traffic_policy("shop", "p", {**SERVICE, "sectionName": "http"}, ROUTE)).traffic["shop/p"]
    assert found.targets == (TargetRef("Service", "cart", "http"), TargetRef("HTTPRoute", "r", "canary"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0, 0), (4096, 4096), ("4096", 4096), ("64Mi", 64 << 20), ("5k", 5000), ("1Ti", 1 << 40), ("2G", 2 * 10**9)],
)
def test_limits_of_a_namespace_are_read_with_their_quantity(given: int | str, expected: int) -> None:
    document = traffic_policy("shop", "p", OWN, limits={"maxConnections": 7, "maxBufferedBytes": given})
    assert some.objects(document).traffic["shop/p"].limits == PodLimits("shop/p", 7, None, expected)
    assert byte_count(given) == expected


def test_a_rate_limit_policy_that_names_everything_is_read_whole() -> None:
    rule = {
        "name": "each",
        "per": "Header",
        "header": "X-Key",
        "clientSelectors": {
            "serviceAccounts": [{"namespace": "batch", "name": "*"}],
            "headers": [{"name": "X-Tier", "value": "Free"}],
            "sourceCIDRs": ["198.18.0.0/16"],
        },
        "limit": {"requests": 10, "interval": "1m", "burst": 20},
    }
    answer = {"status": 503, "headers": [{"name": "X-Why", "value": "busy"}]}
    found = limits(
        mode="DryRun",
        http={"rules": [rule], "onLimit": answer},
        connections={"limit": {"connections": 5, "interval": "2s", "burst": 9}},
    )
    expected = RateLimitRule(
        "each",
        Limit(10, 60_000, 20),
        Per.HEADER,
        "x-key",
        ("batch/*",),
        (("x-tier", "Free"),),
        ("198.18.0.0/16",),
    )
    assert found.http == RateLimitPolicy("shop/p", (expected,), Mode.DRY_RUN, 503, (("X-Why", "busy"),))
    assert found.connections == ConnectionRate("shop/p", Limit(5, 2000, 9), Mode.DRY_RUN)


def test_a_limit_is_a_second_s_in_total_and_bursts_to_what_it_brings() -> None:
    found = limits(http={"rules": [{"name": "all", "limit": {"requests": 100}}]})
    assert found.http == RateLimitPolicy("shop/p", (RateLimitRule("all", Limit(100, 1000, 100)),))
    assert found.connections is None
    only = limits(connections={"limit": {"connections": 3}})
    assert (only.http, only.connections) == (None, ConnectionRate("shop/p", Limit(3, 1000, 3)))


# ---- what is refused ----

RING = {"type": "RingHash"}
BROKEN_TRAFFIC: list[tuple[Document, str, str]] = [
    ({"mode": "Shadow"}, "mode", "expected one of Enforce, DryRun"),
    ({"timeouts": {"request": "1s", "backendRequest": "2s"}}, "timeouts.backendRequest", "must not be longer"),
    ({"timeouts": {"connect": "1.5s"}}, "timeouts.connect", "a duration such as"),
    ({"timeouts": {"perTry": "1s"}}, "timeouts.perTry", "unknown field"),
    ({"retry": {"attempts": 0}}, "retry.attempts", "too small"),
    ({"retry": {"attempts": 11}}, "retry.attempts", "too large"),
    ({"retry": {"codes": [503, 200]}}, "retry.codes[1]", "too small"),
    ({"retry": {"backoff": "61s"}}, "retry.backoff", "expected 0s to 1m"),
    ({"retry": {"budget": {"percent": 101}}}, "retry.budget.percent", "too large"),
    ({"retry": {"budget": {"interval": "0s"}}}, "retry.budget.interval", "expected 1s to 1h"),
    (
        {"retry": {"budget": {"interval": "1s", "minRetryRate": {"interval": "2s"}}}},
        "retry.budget.minRetryRate.interval",
        "must not be longer than the budget's interval (1s)",
    ),
    ({"circuitBreaker": {"maxConnections": -1}}, "circuitBreaker.maxConnections", "too small"),
    ({"outlierDetection": {"maxEjectionPercent": 101}}, "outlierDetection.maxEjectionPercent", "too large"),
    ({"outlierDetection": {"interval": "0s"}}, "outlierDetection.interval", "expected 100ms to 1h"),
    (
        {"outlierDetection": {"maxEjectionTime": "29s"}},
        "outlierDetection.maxEjectionTime",
        "must not be shorter than baseEjectionTime (30s)",
    ),
    ({"loadBalancer": {}}, "loadBalancer.type", "required"),
    ({"loadBalancer": {"type": "Maglev"}}, "loadBalancer.type", "unsupported value"),
    ({"loadBalancer": RING}, "loadBalancer.hash", "the type is RingHash"),
    ({"loadBalancer": {"type": "Random", "hash": {"type": "SourceIP"}}}, "loadBalancer.hash", "type is Random"),
    ({"loadBalancer": {**RING, "hash": {"type": "Header"}}}, "loadBalancer.hash.header", "the type is Header"),
    (
        {"loadBalancer": {**RING, "hash": {"type": "SourceIP", "cookie": {"name": "a"}}}},
        "loadBalancer.hash.cookie",
        "must not be given",
    ),
    (
        {"loadBalancer": {**RING, "hash": {"type": "Cookie", "cookie": {"name": "a", "path": "/;x"}}}},
        "loadBalancer.hash.cookie.path",
        "without spaces and semicolons",
    ),
    ({"faultInjection": {}}, "faultInjection", "at least one of delay, abort"),
    ({"faultInjection": {"delay": {"duration": "1s"}}}, "faultInjection.delay.percent", "required"),
    ({"faultInjection": {"abort": {"status": 199, "percent": 1}}}, "faultInjection.abort.status", "too small"),
    ({"faultInjection": {"abort": {"status": 500, "percent": 100.1}}}, "faultInjection.abort.percent", "0 to 100"),
    ({"limits": {"maxConnections": 1}}, "limits", "only allowed with a Namespace target"),
    ({"targetRefs": []}, "targetRefs", "at least 1"),
    ({"targetRefs": [SERVICE, SERVICE]}, "targetRefs[1]", "duplicate value"),
    ({"targetRefs": [{**SERVICE, "namespace": "x"}]}, "targetRefs[0].namespace", "unknown field"),
    ({"targetRefs": [{"kind": "HTTPRoute", "name": "r"}]}, "targetRefs[0].group", "gateway.networking.k8s.io"),
    ({"targetRefs": [{**SERVICE, "group": "apps"}]}, "targetRefs[0].group", 'Service is of group ""'),
    ({"targetRefs": [{**SERVICE, "kind": "Pod"}]}, "targetRefs[0].kind", "unsupported value"),
    ({"targetRefs": [{**OWN, "name": "bank"}], "limits": {}}, "targetRefs[0].name", "not the policy's own namespace"),
    ({"targetRefs": [{**OWN, "sectionName": "a"}], "limits": {}}, "targetRefs[0].sectionName", "must not be given"),
    ({"targetRefs": [OWN], "limits": {}, "retry": {}}, "retry", "not allowed with a Namespace target"),
    ({"targetRefs": [OWN]}, "limits", "required value is missing"),
    ({"targetRefs": [OWN, SERVICE], "limits": {}}, "targetRefs[1].kind", "targets nothing else"),
    ({"targetRefs": [OWN], "limits": {"maxBufferedBytes": "1.5Gi"}}, "limits.maxBufferedBytes", "64Mi"),
    ({"targetRefs": [OWN], "limits": {"maxBufferedBytes": 1.5}}, "limits.maxBufferedBytes", "expected an integer"),
]


@pytest.mark.parametrize(("spec", "field", "said"), BROKEN_TRAFFIC, ids=lambda value: str(value)[:60])
def test_a_broken_traffic_policy_is_refused_with_its_field(spec: Document, field: str, said: str) -> None:
    (problem,) = problems(traffic_policy("shop", "p", SERVICE, **spec))
    assert problem[0] == field
    assert said in problem[1]


LIMIT = {"requests": 1}


def rule(**more: object) -> Document:
    return {"http": {"rules": [{"name": "a", "limit": LIMIT, **more}]}}


BROKEN_LIMITS: list[tuple[Document, str, str]] = [
    ({}, "", "at least one of http, connections"),
    ({"http": {"rules": []}}, "http.rules", "at least 1"),
    ({"http": {"rules": [{"limit": LIMIT}]}}, "http.rules[0].name", "required"),
    ({"http": {"rules": [{"name": "a"}]}}, "http.rules[0].limit", "required"),
    ({"http": {"rules": [{"name": "a", "limit": LIMIT}] * 2}}, "http.rules[1]", "duplicate value: name 'a'"),
    ({"http": {"rules": [{"name": str(n), "limit": LIMIT} for n in range(17)]}}, "http.rules", "at most 16"),
    (rule(limit={"requests": 0}), "http.rules[0].limit.requests", "too small"),
    (rule(limit={"requests": 1, "burst": 0}), "http.rules[0].limit.burst", "too small"),
    (rule(limit={"requests": 1_000_001}), "http.rules[0].limit.requests", "too large"),
    (rule(limit={"requests": 1, "interval": "0s"}), "http.rules[0].limit.interval", "expected 1ms to 1h"),
    (rule(limit={"requests": 1, "interval": "61m"}), "http.rules[0].limit.interval", "expected 1ms to 1h"),
    (rule(per="Path"), "http.rules[0].per", "unsupported value"),
    (rule(per="Header"), "http.rules[0].header", "required"),
    (rule(header="x"), "http.rules[0].header", "must not be given when the limit is per Total"),
    (rule(clientSelectors={}), "http.rules[0].clientSelectors", "at least one of"),
    (rule(clientSelectors={"sourceCIDRs": ["10.0.0.1"]}), "http.rules[0].clientSelectors.sourceCIDRs[0]", "CIDR"),
    (
        {**rule(), "http": {**rule()["http"], "onLimit": {"status": 200}}},
        "http.onLimit.status",
        "too small",
    ),
    (
        {**rule(), "http": {**rule()["http"], "onLimit": {"headers": [{"name": "Content-Length", "value": "1"}]}}},
        "http.onLimit.headers[0].name",
        "framing",
    ),
    ({"connections": {}}, "connections.limit", "required"),
    ({"connections": {"limit": {"requests": 1}}}, "connections.limit.connections", "required"),
    ({"targetRefs": [ROUTE], "connections": {"limit": {"connections": 1}}}, "targetRefs[0].kind", "only a Service"),
    ({"targetRefs": [OWN], **rule()}, "targetRefs[0].kind", "unsupported value"),
]


@pytest.mark.parametrize(("spec", "field", "said"), BROKEN_LIMITS, ids=lambda value: str(value)[:60])
def test_a_broken_rate_limit_policy_is_refused_with_its_field(spec: Document, field: str, said: str) -> None:
    found = problems(rate_limit_policy("shop", "p", SERVICE, **spec))
    assert found[0][0] == field
    assert said in found[0][1]


def test_a_broken_policy_keeps_its_last_good_state() -> None:
    good = traffic_policy("shop", "p", SERVICE, timeouts={"request": "1s"})
    before = some.load({"p.yaml": some.text(good)})[0]
    broken = traffic_policy("shop", "p", SERVICE, timeouts={"request": "soon"})
    now = some.load({"p.yaml": some.text(broken)}, before)[1]
    assert now.traffic["shop/p"].policy.timeouts.request == 1000
    assert [one.last_good for one in now.broken] == [True]
