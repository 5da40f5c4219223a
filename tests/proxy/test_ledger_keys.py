"""What the agent keeps in the ledger's tables is what workers use under the newest snapshot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.judge import Judge
from nodeagent.core.ledger import BudgetRequest, BudgetRetry, Claim, LocalLedger, Prepared, Slot
from nodeagent.core.ledger_keys import ledger_keys
from nodeagent.core.model import Destination, Endpoint, Protocol, RequestHead, Snapshot, Treatment, Workload
from nodeagent.core.traffic import CircuitBreaker, Mode, OutlierDetection, Retry, SuccessRate, TrafficPolicy
from nodeagent.proxy.policies.handling import Handlings
from nodeagent.regex import compile_regex
from tests.core import strategies as some

ENDPOINTS = (Endpoint("198.18.0.1", 80), Endpoint("198.18.0.2", 80))
WHOLE = TrafficPolicy(
    "shop/whole",
    retry=Retry(),
    circuit_breaker=CircuitBreaker(1, 2, 3, 4),
    outlier_detection=OutlierDetection(success_rate=SuccessRate()),
)


class Noting(LocalLedger):
    """Remembers what was named of its slots, budgets and records."""

    def __init__(self) -> None:
        super().__init__(time.monotonic_ns)
        self.named: set[int] = set()

    def prepare(self, claims: Sequence[Claim]) -> Prepared:
        self.named |= {claim.key for claim in claims if isinstance(claim, Slot | BudgetRequest | BudgetRetry)}
        return super().prepare(claims)

    def read(self, key: int) -> tuple[int, bytes]:
        self.named.add(key)
        return super().read(key)


def used(treatment: Treatment) -> set[int]:
    """Keys that a worker names for requests which are treated like this: let in, under way, and at a tick."""
    ledger = Noting()
    handlings = Handlings(ledger)
    handling = handlings.of(treatment)
    handling._make_gates(cast("Any", _NoLimits()))
    handling.retry_claims(first=True)
    for cluster in handlings.clusters():
        for endpoint in cluster.loads.endpoints:
            cluster.answered(endpoint, 200, 0.0)
        cluster.tick()
        cluster.make_room(cast("Any", None))  # nobody asked, so the pool is not
    return ledger.named


class _NoLimits:
    enforced = dry_run = ()


def of_frontend(**fields: object) -> Snapshot:
    target = ("198.19.0.1", 80)
    one = Destination(*("shop/a:80", *target, Protocol.HTTP1), is_frontend=True, endpoints=ENDPOINTS)
    return Snapshot(1, {target: replace(one, **cast("Any", fields))}, {})


def test_every_field_that_keeps_something_is_named_and_nothing_else() -> None:
    keys = ledger_keys(of_frontend(traffic=WHOLE))
    assert used(Treatment("shop/a:80", ENDPOINTS, WHOLE)) < keys
    v6 = tuple(Endpoint(f"fd00::{number}", 80) for number in (1, 2))
    assert used(Treatment("shop/a:80", v6, WHOLE)) < keys
    assert used(Treatment("shop/a:80", v6, WHOLE)) | used(Treatment("shop/a:80", ENDPOINTS, WHOLE)) == keys
    assert ledger_keys(of_frontend(traffic=TrafficPolicy("shop/whole"))) == set()
    assert ledger_keys(of_frontend()) == set()


def test_a_dry_run_and_another_backend_have_keys_of_their_own() -> None:
    enforced = ledger_keys(of_frontend(traffic=WHOLE))
    shadow = replace(WHOLE, mode=Mode.DRY_RUN)
    tried = ledger_keys(of_frontend(shadow=shadow))
    assert used(Treatment("shop/a:80", ENDPOINTS, shadow=shadow)) < tried
    assert len(tried) == len(enforced)
    assert not tried & enforced
    assert not ledger_keys(of_frontend(name="shop/b:80", traffic=WHOLE)) & enforced
    assert ledger_keys(of_frontend(traffic=WHOLE, shadow=shadow)) == enforced | tried


def test_a_cap_that_a_policy_gave_up_is_named_no_more() -> None:
    fewer = replace(WHOLE, circuit_breaker=CircuitBreaker(1, 2, 3))
    assert len(ledger_keys(of_frontend(traffic=WHOLE)) - ledger_keys(of_frontend(traffic=fewer))) == 1


parts = st.fixed_dictionaries(
    {
        "retry": st.sampled_from([None, Retry()]),
        "circuit_breaker": st.sampled_from([None, CircuitBreaker(max_connections=1), CircuitBreaker(1, 2, 3, 4)]),
        "outlier_detection": st.sampled_from([None, OutlierDetection(), OutlierDetection(success_rate=SuccessRate())]),
    }
)
policies = st.none() | st.builds(
    lambda name, more: TrafficPolicy(name, **more), st.sampled_from(["shop/p", "shop/q"]), parts
)


@st.composite
def treated(draw: st.DrawFn) -> Destination:
    """Rules and frontend with policies; a name stands for one policy only, as in a snapshot."""
    known: dict[str, TrafficPolicy] = {}

    def policy() -> TrafficPolicy | None:
        drawn = draw(policies)
        return drawn and known.setdefault(drawn.name, drawn)

    destination = draw(some.destinations)
    rules = tuple(
        replace(rule, backends=tuple(replace(one, traffic=policy(), shadow=policy()) for one in rule.backends))
        for rule in destination.producer_rules
    )
    return replace(destination, producer_rules=rules, traffic=policy(), shadow=policy())


@given(treated(), some.workloads, st.lists(st.tuples(some.heads, some.randoms), min_size=1, max_size=4))
def test_whatever_a_worker_names_for_a_request_is_named_by_the_snapshot(
    destination: Destination, caller: Workload, requests: list[tuple[RequestHead, float]]
) -> None:
    keys = ledger_keys(Snapshot(1, {(destination.address, destination.port): destination}, {}))
    judge = Judge(destination, compile_regex)
    for head, rand in requests:
        treatment = judge.decide(caller, "10.0.0.7", head, rand).treatment
        if treatment is not None:
            assert used(treatment) <= keys
