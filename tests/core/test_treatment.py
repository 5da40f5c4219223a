"""What of the route and what of a TrafficPolicy counts, where both speak."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeagent.core.model import Backend, Destination, Endpoint, PathKind, Protocol, Rule, Rung
from nodeagent.core.traffic import (
    MAX_RETRIES,
    Balancing,
    HashOn,
    LoadBalancer,
    Mode,
    Retry,
    RetryBudget,
    SessionPersistence,
    TrafficPolicy,
)
from nodeagent.core.treatment import treatment_of_rule, treatment_without_route

FRONTEND = Destination("shop/a:80", "198.18.0.1", 80, Protocol.HTTP1, is_frontend=True)
BUDGET = RetryBudget(percent=50)
POLICY = TrafficPolicy("shop/p", retry=Retry(attempts=5, budget=BUDGET))


def backend(policy: TrafficPolicy | None) -> Backend:
    return Backend("shop/b:80", 1, (Endpoint("10.0.0.1", 80),), traffic=policy)


def rule(behind: Backend, retry: Retry | None = None, session: SessionPersistence | None = None) -> Rule:
    where = (behind,)
    return Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), where, retry=retry, session=session)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, RetryBudget()),
        (TrafficPolicy("shop/p"), RetryBudget()),
        (POLICY, BUDGET),
    ],
)
def test_a_routes_retry_has_the_budget_of_the_policy_in_force(
    policy: TrafficPolicy | None, expected: RetryBudget
) -> None:
    behind = backend(policy)
    treatment = treatment_of_rule(FRONTEND, rule(behind, Retry(attempts=2)), behind)
    assert treatment is not None
    assert treatment.retry == Retry(attempts=2, budget=expected)


def test_the_budget_of_a_policy_that_is_only_simulated_counts_for_nothing() -> None:
    behind = replace(backend(None), shadow=replace(POLICY, mode=Mode.DRY_RUN))
    treatment = treatment_of_rule(FRONTEND, rule(behind, Retry(attempts=2)), behind)
    assert treatment is not None
    assert treatment.retry == Retry(attempts=2)


def test_without_a_retry_of_the_route_that_of_the_policy_stands() -> None:
    treatment = treatment_of_rule(FRONTEND, rule(backend(POLICY)), backend(POLICY))
    assert treatment is not None
    assert (treatment.retry, treatment.traffic) == (None, POLICY)


def test_a_session_alone_makes_a_treatment() -> None:
    behind, session = backend(None), SessionPersistence("s")
    treatment = treatment_of_rule(FRONTEND, rule(behind, session=session), behind)
    assert treatment is not None
    assert (treatment.session, treatment.endpoints) == (session, behind.endpoints)
    assert treatment_of_rule(FRONTEND, rule(behind), behind) is None


def test_a_route_gets_no_more_retries_than_a_policy_may_ask_for() -> None:
    behind = backend(None)
    for asked, given in ((0, 0), (10, 10), (11, MAX_RETRIES), (2**31, MAX_RETRIES)):
        treatment = treatment_of_rule(FRONTEND, rule(behind, Retry(attempts=asked)), behind)
        assert treatment is not None
        assert treatment.retry == Retry(attempts=given)


# ---- sessionAffinity of the Service ----

BY_CALLER = LoadBalancer(Balancing.RING_HASH, HashOn.SOURCE_IP)


def test_affinity_is_to_hash_the_callers_address() -> None:
    behind = replace(backend(None), affinity=True)
    found = treatment_of_rule(FRONTEND, rule(behind), behind), treatment_without_route(replace(FRONTEND, affinity=True))
    for treatment in found:
        assert treatment is not None
        assert treatment.traffic == TrafficPolicy("", load_balancer=BY_CALLER)


def test_affinity_leaves_what_else_a_policy_asks_for() -> None:
    behind = replace(backend(POLICY), affinity=True)
    treatment = treatment_of_rule(FRONTEND, rule(behind), behind)
    assert treatment is not None
    assert treatment.traffic == replace(POLICY, load_balancer=BY_CALLER)


def test_a_policy_that_balances_comes_before_affinity() -> None:
    balanced = replace(POLICY, load_balancer=LoadBalancer(Balancing.ROUND_ROBIN))
    behind = replace(backend(balanced), affinity=True)
    treatment = treatment_of_rule(FRONTEND, rule(behind), behind)
    assert treatment is not None
    assert treatment.traffic == balanced


def test_affinity_alone_puts_no_proxy_in_the_way() -> None:
    assert replace(FRONTEND, affinity=True).rung is Rung.DIRECT
