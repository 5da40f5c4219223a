"""Policies in words: everything that is set is said, and nothing that is not."""

from __future__ import annotations

import pytest

from nodeagent.core.model import Treatment, Workload
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
    SessionPersistence,
    SuccessRate,
    TrafficPolicy,
)
from nodeagent.core.treatment_text import (
    balancer_text,
    breaker_text,
    caps_lines,
    connection_line,
    described,
    fault_text,
    outlier_text,
    retry_text,
    rule_text,
    timeouts_text,
    traffic_line,
)

LIMIT = Limit(10, 60_000, 20)


def test_each_policy_is_one_line_with_its_mode() -> None:
    policy = TrafficPolicy("shop/a", timeouts=PolicyTimeouts(1000, 0, 5000), circuit_breaker=CircuitBreaker(0))
    shadow = TrafficPolicy("shop/b", Mode.DRY_RUN)
    limits = RateLimitPolicy("shop/l", (RateLimitRule("all", LIMIT), RateLimitRule("more", LIMIT)), Mode.DRY_RUN, 503)
    assert described(Treatment("shop/cart:80", (), policy, (limits,), shadow)) == [
        "TrafficPolicy shop/a: timeouts connect 1s, request 5s; breaker connections 0",
        "TrafficPolicy shop/b (DryRun): asks for nothing",
        "RateLimitPolicy shop/l (DryRun): all 10 per 1m burst 20; more 10 per 1m burst 20; over it 503",
    ]
    assert described(None) == described(Treatment("")) == []


def test_what_the_rule_asks_for_itself_comes_first_and_says_that_the_policy_gives_way() -> None:
    policy, session = TrafficPolicy("shop/a", retry=Retry()), SessionPersistence("id", absolute_timeout=60_000)
    own = Retry(3, frozenset({503}))
    line = described(Treatment("shop/cart:80", (), policy, (), retry=own, session=session))[0]
    words = f"the route's rule: retry {retry_text(own)}, in place of the policy's; session by Cookie id for 1m"
    assert line == words
    assert described(Treatment("shop/cart:80", (), retry=Retry(0))) == ["the route's rule: retry none"]


def test_faults_that_the_agent_was_not_told_to_allow_are_not_passed_over() -> None:
    line = traffic_line(TrafficPolicy("shop/a", faults_left_out=True))
    assert line == "TrafficPolicy shop/a: fault left out, as the agent runs without --allow-fault-injection"


def test_each_part_of_a_traffic_policy_is_on_its_line() -> None:
    policy = TrafficPolicy(
        "shop/a",
        Mode.ENFORCE,
        PolicyTimeouts(idle=1),
        Retry(),
        CircuitBreaker(1),
        OutlierDetection(),
        LoadBalancer(),
        FaultInjection(5, 1.0),
    )
    names = ("timeouts", "retry", "breaker", "outlier", "balancer", "fault")
    assert [part.split()[0] for part in traffic_line(policy).partition(": ")[2].split("; ")] == list(names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (timeouts_text(PolicyTimeouts(1, 2, 3, 4)), "connect 1ms, idle 2ms, request 3ms, try 4ms"),
        (retry_text(Retry()), "1 on connect 502 503 504, backoff 25ms, budget 20% of 10s or 10 per 1s"),
        (
            retry_text(Retry(3, frozenset(), False, 0)),
            "3 on nothing, backoff 0s, budget 20% of 10s or 10 per 1s",
        ),
        (breaker_text(CircuitBreaker(1, 2, 3, 4)), "connections 1, pending 2, requests 3, retries 4"),
        (outlier_text(OutlierDetection()), "5xx 5, local 5, ejects for 30s to 5m, at most 10%, every 10s"),
        (
            outlier_text(OutlierDetection(0, 7, 0, SuccessRate(stdev_factor=1500))),
            "gateway 7, success rate 1.5 deviations below, ejects for 30s to 5m, at most 10%, every 10s",
        ),
        (balancer_text(LoadBalancer(Balancing.PEAK_EWMA)), "PeakEWMA"),
        (balancer_text(LoadBalancer(Balancing.RING_HASH, HashOn.SOURCE_IP)), "RingHash by SourceIP"),
        (balancer_text(LoadBalancer(Balancing.RING_HASH, HashOn.HEADER, "x")), "RingHash by Header x"),
        (fault_text(FaultInjection(100, 0.5, 418, 100)), "delay 100ms for 0.5%, abort with 418 for 100%"),
        (rule_text(RateLimitRule("a", LIMIT, Per.HEADER, "x-key")), "a 10 per 1m burst 20 for each value of x-key"),
        (
            rule_text(RateLimitRule("a", LIMIT, Per.TOTAL, "", ("b/*", "c/d"), (("x", "y"),), ("10.0.0.0/8",))),
            "a 10 per 1m burst 20 of service accounts b/* c/d with x: y from 10.0.0.0/8",
        ),
        (connection_line(ConnectionRate("shop/l", LIMIT)), "RateLimitPolicy shop/l: connections 10 per 1m burst 20"),
    ],
)
def test_a_part_in_words(text: str, expected: str) -> None:
    assert text == expected


def test_caps_of_a_pod_name_the_policy_they_are_from() -> None:
    bare = Workload("shop", "a", "a", "a", ())
    assert caps_lines(bare) == []
    limits, shadow = PodLimits("shop/n", 1, None, 4096), PodLimits("shop/m", None, 2)
    pod = Workload("shop", "a", "a", "a", (), limits=limits, shadow_limits=shadow)
    assert caps_lines(pod) == [
        "TrafficPolicy shop/n: connections 1, bytes 4096",
        "TrafficPolicy shop/m (DryRun): requests 2",
    ]
