"""What many requests cost at once: the same as one by one, and never where it could be missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.ledger import TAKEN, BudgetRequest, BudgetRetry, Claim, LocalLedger, Slot, Tokens
from nodeagent.core.prepaid import COUNT, GATES, PART, narrowed, prepayment

SECOND = 1_000_000_000
LARGE = COUNT * PART


def test_all_in_hand_is_a_small_part_of_any_burst() -> None:
    for burst in (1, PART, 2 * PART, LARGE - 1, LARGE, 100 * LARGE):
        many = prepayment([Tokens(1, SECOND, burst)])
        assert many is None or many.count * GATES <= burst / 512


def test_with_what_workers_have_in_hand_a_bucket_is_as_large_as_its_limit() -> None:
    for burst in (1, 2 * PART - 1, 2 * PART, LARGE, 1_000_000):
        for workers in (1, 2, 16):
            bucket = narrowed(Tokens(1, SECOND, burst), workers)
            many = prepayment([bucket])
            in_hand = workers * GATES * (many.count - 1) if many is not None else 0
            assert bucket.burst + in_hand <= burst
            assert bucket.burst == burst or burst >= 2 * PART


def test_the_smallest_bucket_decides_how_many_are_paid_for() -> None:
    many = prepayment([Tokens(1, SECOND, LARGE), Tokens(2, SECOND, 3 * PART), BudgetRequest(3, SECOND)])
    assert many is not None
    assert many.count == 3
    assert prepayment([Tokens(1, SECOND, LARGE), Tokens(2, SECOND, 2 * PART - 1)]) is None


def test_where_nothing_is_claimed_nothing_is_paid() -> None:
    assert prepayment([]) is None


def test_a_place_is_not_paid_for_in_advance() -> None:
    with pytest.raises(ValueError, match="not a Slot"):
        prepayment([Slot(1, 1)])


def test_nothing_is_taken_when_less_than_half_would_be_left() -> None:
    ledger = LocalLedger(lambda: SECOND)
    many = prepayment([Tokens(1, SECOND, LARGE)])
    assert many is not None
    claims = ledger.prepare(many.first)
    while ledger.take(claims) == TAKEN:
        assert ledger.left(Tokens(1, SECOND, LARGE)) >= LARGE // 2
    assert ledger.left(Tokens(1, SECOND, LARGE)) < LARGE // 2 + many.count


@given(st.integers(1, 4), st.integers(0, COUNT - 1))
def test_once_settled_all_is_as_if_every_request_had_been_claimed_alone(payments: int, unused: int) -> None:
    claims: list[Claim] = [Tokens(1, SECOND, LARGE), BudgetRequest(2, 10 * SECOND)]
    many = prepayment(claims)
    assert many is not None
    ahead, alone = LocalLedger(lambda: SECOND), LocalLedger(lambda: SECOND)
    for number in range(payments):
        assert ahead.take(ahead.prepare(many.next if number else many.first)) == TAKEN
    back, made = many.settled(unused)
    ahead.give(ahead.prepare(back))
    ahead.take(ahead.prepare(made))
    for _ in range(payments * many.count - unused):
        assert alone.take(alone.prepare(claims)) == TAKEN
    assert ahead.left(Tokens(1, SECOND, LARGE)) == alone.left(Tokens(1, SECOND, LARGE))
    retry = BudgetRetry(2, 10 * SECOND, 50, 0, SECOND)
    left = [sum(one.take(one.prepare([retry])) == TAKEN for _ in range(200)) for one in (ahead, alone)]
    assert left[0] == left[1]
