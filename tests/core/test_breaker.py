"""A circuit breaker's caps as claims, and the words of everything that a policy refuses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core import policy_refusals
from nodeagent.core.breaker import Cap, Caps, caps_of, overflow, overflow_detail
from nodeagent.core.ledger import Slot
from nodeagent.core.traffic import CircuitBreaker

breakers = st.builds(CircuitBreaker, *[st.none() | st.integers(0, 100_000)] * 4)
FULL = CircuitBreaker(1, 2, 3, 4)


@given(breakers)
def test_each_cap_that_is_set_is_a_slot_with_its_limit(breaker: CircuitBreaker) -> None:
    caps = caps_of(breaker, "shop/p", "shop/cart:80")
    limits = [None if slot is None else slot.limit for slot in caps]
    assert limits == [
        breaker.max_connections,
        breaker.max_pending_requests,
        breaker.max_parallel_requests,
        breaker.max_parallel_retries,
    ]


def test_caps_policies_and_backends_share_no_slot() -> None:
    slots = [slot for policy in "ab" for backend in "cd" for slot in caps_of(FULL, policy, backend)]
    assert len({slot.key for slot in slots if slot is not None}) == 16


def test_a_new_limit_goes_on_with_the_slots_that_are_held() -> None:
    before, after = caps_of(FULL, "p", "b").connections, caps_of(CircuitBreaker(9), "p", "b").connections
    assert before is not None
    assert after == Slot(before.key, 9)


def test_a_refused_slot_names_its_cap() -> None:
    caps = caps_of(FULL, "p", "b")
    assert [caps.refused_by(slot) for slot in caps if slot is not None] == list(Cap)
    with pytest.raises(ValueError, match="not in tuple"):
        Caps(None, None, None, None).refused_by(Slot(1, 1))


@pytest.mark.parametrize("cap", Cap)
def test_an_overflow_says_which_field_of_which_policy(cap: Cap) -> None:
    refusal = overflow(cap)
    words = "-".join(re.sub("([A-Z])", r" \1", cap.value).lower().split())
    assert refusal == (503, f"circuit-breaker-{words}", "UO")
    detail = overflow_detail(cap, 7, "shop/p", "shop/cart:80")
    assert detail.startswith(f"circuitBreaker.{cap.value} of TrafficPolicy shop/p is 7")
    assert "shop/cart:80" in detail


def test_every_refusal_has_a_word_of_its_own_that_fits_a_header_and_a_label() -> None:
    reasons = [refusal.reason for refusal in policy_refusals.ALL]
    assert len(set(reasons)) == len(reasons)
    for refusal in policy_refusals.ALL:
        assert re.fullmatch("[a-z]+(-[a-z]+)*", refusal.reason)
        assert re.fullmatch("[A-Z]{2,3}", refusal.flag)
        assert 400 <= refusal.status <= 599


def test_all_names_every_refusal() -> None:
    named = {value for value in vars(policy_refusals).values() if isinstance(value, policy_refusals.PolicyRefusal)}
    assert named == set(policy_refusals.ALL)


@pytest.mark.parametrize(
    "detail",
    [
        policy_refusals.rate_limited_detail("shop/p", "default"),
        policy_refusals.retry_budget_detail("shop/p", "shop/cart:80"),
        policy_refusals.fault_detail("shop/p"),
        policy_refusals.no_healthy_detail("shop/p", "shop/cart:80"),
        overflow_detail(Cap.CONNECTIONS, 1, "shop/p", "shop/cart:80"),
    ],
)
def test_a_detail_is_one_line_that_names_the_policy(detail: str) -> None:
    assert "Policy shop/p" in detail
    assert detail.isprintable()
