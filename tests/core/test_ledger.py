"""Limits hold whatever the order of claims: the ledger of one process, which is also the kernel's reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.ledger import (
    MAX_CLAIMS,
    RECORD_BYTES,
    TAKEN,
    BudgetRequest,
    BudgetRetry,
    Claim,
    LocalLedger,
    Sizes,
    Slot,
    Tokens,
    ledger_key,
)

SECOND = 1_000_000_000
START = 1_000 * SECOND


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def ledger(clock: Clock | None = None, sizes: Sizes | None = None) -> LocalLedger:
    return LocalLedger(clock or Clock(), sizes or Sizes())


def take(local: LocalLedger, *claims: Claim) -> int:
    return local.take(local.prepare(claims))


def grants(local: LocalLedger, claim: Claim, times: int) -> int:
    prepared = local.prepare((claim,))
    return sum(local.take(prepared) == TAKEN for _ in range(times))


# ---- token buckets ----


@given(st.integers(1, 50), st.integers(1, 20), st.lists(st.integers(0, 120), min_size=1, max_size=80))
def test_a_bucket_never_grants_more_than_its_burst_and_rate_times_the_window(
    period: int, burst: int, gaps: list[int]
) -> None:
    clock = Clock()
    local = ledger(clock)
    granted = []
    for gap in gaps:
        clock.now += gap
        granted += [clock.now] * grants(local, Tokens(1, period, burst), 3)
    for first, since in enumerate(granted):
        for last in range(first, len(granted)):
            assert last - first + 1 <= burst + (granted[last] - since) // period


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 2000))
def test_a_bucket_is_full_at_first_and_fills_up_again(period: int, burst: int, idle: int) -> None:
    clock = Clock()
    local = ledger(clock)
    assert grants(local, Tokens(1, period, burst), burst + 5) == burst
    clock.now += idle
    assert grants(local, Tokens(1, period, burst), burst + 5) == min(burst, idle // period)


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 25), st.integers(0, 300))
def test_wait_and_left_say_what_the_next_claims_will_be_told(period: int, burst: int, taken: int, gap: int) -> None:
    clock = Clock()
    local = ledger(clock)
    tokens = Tokens(1, period, burst)
    grants(local, tokens, taken)
    clock.now += gap
    left, wait = local.left(tokens), local.wait(tokens)
    assert (wait == 0) == (left > 0)
    if wait:
        clock.now += wait - 1
        assert take(local, tokens) == 0
        clock.now += 1
        assert take(local, tokens) == TAKEN
    else:
        assert grants(local, tokens, burst + 1) == left


def test_a_limit_that_becomes_smaller_leaves_an_empty_bucket_and_no_debt() -> None:
    clock = Clock()
    local = ledger(clock)
    hourly, quick = Tokens(1, 3600 * SECOND, 1000), Tokens(1, SECOND, 2)
    assert grants(local, hourly, 1000) == 1000
    assert take(local, quick) == 0
    clock.now += SECOND
    assert grants(local, quick, 3) == 1


def test_a_full_table_of_buckets_forgets_the_one_unused_for_longest() -> None:
    local = ledger(sizes=Sizes(buckets=2))
    buckets = [Tokens(key, SECOND, 1) for key in range(3)]
    assert [take(local, bucket) for bucket in (buckets[0], buckets[1], buckets[0])] == [TAKEN, TAKEN, 0]
    assert take(local, buckets[2]) == TAKEN  # in the place of 1
    assert [take(local, buckets[0]), take(local, buckets[1])] == [0, TAKEN]


# ---- slots ----


@given(st.integers(0, 5), st.lists(st.booleans(), max_size=60))
def test_slots_are_never_above_the_limit_and_a_free_one_is_never_refused(limit: int, steps: list[bool]) -> None:
    local = ledger()
    slot = Slot(1, limit)
    prepared = local.prepare((slot,))
    held = 0
    for wants in steps:
        if wants:
            assert (local.take(prepared) == TAKEN) == (held < limit)
            held = min(held + 1, limit)
        else:
            local.give(prepared)
            held = max(held - 1, 0)
        assert local.held(slot) == held


# ---- retry budgets ----


@given(st.integers(0, 200), st.integers(0, 100), st.integers(0, 30))
def test_retries_without_a_floor_stop_at_their_share_of_the_requests(requests: int, percent: int, tries: int) -> None:
    local = ledger()
    assert grants(local, BudgetRequest(1, 10 * SECOND), requests) == requests
    granted = grants(local, BudgetRetry(1, 10 * SECOND, percent, 0, SECOND), tries)
    share = -(-requests * percent // 100)  # one more is allowed as long as they are below the share
    assert granted == min(tries, share)


@given(st.integers(1, 10), st.lists(st.integers(0, 700_000_000), min_size=1, max_size=60))
def test_the_floor_is_granted_whatever_the_share(floor: int, gaps: list[int]) -> None:
    clock = Clock()
    local = ledger(clock)
    retry = BudgetRetry(1, 10 * SECOND, 0, floor, SECOND)
    granted: list[int] = []
    for gap in gaps:
        clock.now += gap
        lately = sum(at > clock.now - SECOND for at in granted)
        if take(local, retry) == TAKEN:
            granted.append(clock.now)
        else:
            assert lately >= floor
    for at in granted:
        assert sum(at <= other < at + SECOND for other in granted) <= 2 * floor


def test_requests_and_retries_leave_the_window_after_its_interval() -> None:
    clock = Clock()
    local = ledger(clock)
    request, retry = BudgetRequest(1, 10 * SECOND), BudgetRetry(1, 10 * SECOND, 20, 0, SECOND)
    grants(local, request, 10)
    assert grants(local, retry, 5) == 2
    clock.now += 9 * SECOND
    assert take(local, retry) == 0
    grants(local, request, 5)
    assert take(local, retry) == TAKEN
    clock.now += 1 * SECOND  # the first ten have left, and their two retries
    assert take(local, retry) == 0  # 1 of 5
    clock.now += 10 * SECOND
    assert take(local, retry) == 0  # nothing of nothing


# ---- together ----

CLAIMS = st.one_of(
    st.builds(Slot, st.integers(1, 3), st.integers(0, 4)),
    st.builds(Tokens, st.integers(1, 3), st.just(SECOND), st.integers(1, 4)),
    st.builds(BudgetRetry, st.integers(1, 3), st.just(10 * SECOND), st.just(50), st.integers(0, 2), st.just(SECOND)),
    st.builds(BudgetRequest, st.integers(1, 3), st.just(10 * SECOND)),
)
PROBES: tuple[Claim, ...] = (
    *(Slot(key, 6) for key in range(1, 4)),
    *(Tokens(key, SECOND, burst) for key in range(1, 4) for burst in (1, 4)),
    *(BudgetRetry(key, 10 * SECOND, 50, floor, SECOND) for key in range(1, 4) for floor in (0, 2)),
)


def left_over(rounds: list[list[Claim]]) -> list[int]:
    """How much of everything is left after these claims, which were made one after the other."""
    local = ledger()
    for claims in rounds:
        take(local, *claims)
    return [grants(local, probe, 10) for probe in PROBES]


def has_one_limit_each(claims: list[Claim]) -> bool:
    """As a request has it: a key is of one rule, or one budget.  A smaller limit would forget what is owed."""
    limits = {(type(claim), claim.key, getattr(claim, "burst", 0), getattr(claim, "floor", 0)) for claim in claims}
    return len(limits) == len({(type(claim), claim.key) for claim in claims})


@given(
    st.lists(st.lists(CLAIMS, min_size=1, max_size=MAX_CLAIMS), max_size=8),
    st.lists(CLAIMS, max_size=7).filter(has_one_limit_each),
)
def test_claims_that_are_refused_together_change_nothing(rounds: list[list[Claim]], more: list[Claim]) -> None:
    refused: list[Claim] = [*more, Slot(9, 0)]
    assert left_over([*rounds, refused]) == left_over(rounds)


def test_a_retry_that_is_refused_for_another_reason_leaves_the_floor_as_it_was() -> None:
    local, retry = ledger(), BudgetRetry(1, 10 * SECOND, 0, 2, SECOND)
    for _ in range(3):
        assert take(local, retry, Slot(9, 0)) == 1
    assert grants(local, retry, 5) == 2
    assert take(local, retry, Slot(9, 0)) == 0


def test_a_retry_that_the_share_let_in_gives_nothing_back_to_the_floor() -> None:
    local, retry = ledger(), BudgetRetry(1, 10 * SECOND, 100, 1, SECOND)
    take(local, BudgetRequest(1, 10 * SECOND, 5))
    assert take(local, retry) == TAKEN  # by the floor
    assert take(local, retry, Slot(9, 0)) == 1
    assert take(local, BudgetRetry(1, 10 * SECOND, 0, 1, SECOND)) == 0


def test_the_claim_that_was_refused_is_named_by_its_place() -> None:
    local = ledger()
    assert take(local, BudgetRequest(1, SECOND), Slot(1, 1), Slot(2, 0)) == 2
    assert local.held(Slot(1, 1)) == 0
    assert take(local, BudgetRequest(1, SECOND), Slot(1, 1), Slot(2, 1)) == TAKEN
    assert local.held(Slot(1, 1)) == 1


def test_given_back_are_slots_and_tokens_and_what_a_budget_counted_stays() -> None:
    local = ledger()
    prepared = local.prepare((Slot(1, 1), Tokens(2, SECOND, 9, 3), BudgetRequest(3, SECOND)))
    assert local.take(prepared) == TAKEN
    assert local.left(Tokens(2, SECOND, 9)) == 6
    local.give(prepared)
    assert (local.held(Slot(1, 1)), local.left(Tokens(2, SECOND, 9))) == (0, 9)
    assert grants(local, BudgetRetry(3, SECOND, 100, 0, SECOND), 5) == 1


@given(st.integers(1, 8), st.integers(0, 8), st.integers(1, 12), st.integers(0, 12))
def test_many_tokens_are_taken_together_or_not_at_all_and_leave_what_they_must(
    count: int, leave: int, burst: int, taken: int
) -> None:
    local = ledger()
    one = Tokens(1, SECOND, burst)
    grants(local, one, taken)
    left = local.left(one)
    granted = take(local, Tokens(1, SECOND, burst, count, leave)) == TAKEN
    assert granted == (left >= count + leave)
    assert local.left(one) == left - (count if granted else 0)


@given(st.integers(1, 30), st.integers(0, 100))
def test_many_requests_count_as_if_they_had_come_one_by_one(count: int, percent: int) -> None:
    together, single = ledger(), ledger()
    take(together, BudgetRequest(1, SECOND, count))
    grants(single, BudgetRequest(1, SECOND), count)
    retry = BudgetRetry(1, SECOND, percent, 0, SECOND)
    assert grants(together, retry, 40) == grants(single, retry, 40)


def test_a_full_table_refuses_new_keys_and_counts_it() -> None:
    local = ledger(sizes=Sizes(slots=1, budgets=1, records=1))
    assert [take(local, Slot(key, 1)) for key in (1, 2)] == [TAKEN, 0]
    assert take(local, BudgetRequest(1, SECOND)) == TAKEN
    assert take(local, BudgetRequest(2, SECOND)) == TAKEN  # not counted, and never refused
    assert take(local, BudgetRetry(2, SECOND, 100, 9, SECOND)) == 0
    assert [local.swap(key, 0, b"") for key in (1, 2)] == [True, False]
    assert local.full == 4


@pytest.mark.parametrize(
    "claim",
    [
        *(Slot(-1, 1), Slot(1 << 64, 1), Slot(1, -1)),
        *(Tokens(1, 0, 1), Tokens(1, 1, 0), Tokens(1, 1, 1, 0), Tokens(1, 1 << 40, 1, 1 << 23), Tokens(1, 1, 1, 1, -1)),
        *(BudgetRequest(1, 0), BudgetRequest(1, 1, 0)),
    ],
)
def test_a_claim_that_cannot_mean_a_limit_is_an_error_that_names_the_field(claim: Claim) -> None:
    with pytest.raises(ValueError, match=r"(key|limit|period|burst|interval|count|leave) is .* must be from"):
        ledger().prepare((claim,))


def test_more_claims_than_the_ledger_takes_at_once_are_an_error() -> None:
    with pytest.raises(ValueError, match="at most 8"):
        ledger().prepare((Slot(1, 1),) * (MAX_CLAIMS + 1))


# ---- records ----


def test_a_record_is_replaced_only_by_who_has_seen_its_latest_version() -> None:
    local = ledger()
    assert local.read(1) == (0, b"")
    assert local.swap(1, 0, b"one")
    version, content = local.read(1)
    assert content == b"one"
    assert not local.swap(1, 0, b"late")
    assert local.swap(1, version, b"two")
    assert local.read(1) == (version + 1, b"two")
    assert local.pulse == 2
    with pytest.raises(ValueError, match="at most 2032"):
        local.swap(1, version + 1, b"x" * (RECORD_BYTES + 1))


def test_keys_of_different_names_differ() -> None:
    assert len({ledger_key("a", "bc"), ledger_key("ab", "c"), ledger_key("abc"), ledger_key("a", "b", "c")}) == 4
