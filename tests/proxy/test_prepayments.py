"""Requests paid for in advance: only a busy gate's, only while there is plenty, and given back in time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.core.ledger import TAKEN, BudgetRequest, BudgetRetry, LocalLedger, Prepared, Slot, Tokens
from nodeagent.core.prepaid import COUNT, GATES, PART, narrowed
from nodeagent.core.rate_limits import Applied
from nodeagent.core.traffic import Limit, Mode, PodLimits, RateLimitPolicy, RateLimitRule
from nodeagent.proxy.policies.gate import Gate
from nodeagent.proxy.policies.prepayments import BUSY, Prepayments
from nodeagent.proxy.policies.reserve import Reserve
from tests.proxy.harness import CALLER, Proxy, run
from tests.proxy.test_managed import OK, ask
from tests.proxy.test_reserve import Counting

SECOND = 1_000_000_000
LARGE = COUNT * PART
BUCKET = Tokens(1, SECOND, LARGE)
BUDGET = BudgetRequest(2, 10 * SECOND)
RETRY = BudgetRetry(2, 10 * SECOND, 100, 0, SECOND)


def ledger() -> Counting:
    return Counting(lambda: SECOND)


def gate(
    ledger: Counting, prepayments: Prepayments, bucket: Tokens = BUCKET, reserve: Reserve | None = None
) -> Gate:
    rule = RateLimitRule("all", Limit(bucket.burst, 1000, bucket.burst))
    applied = Applied(RateLimitPolicy("shop/limits", (rule,), Mode.ENFORCE), rule, bucket)
    return Gate(ledger, (applied,), reserve.slot if reserve else None, BUDGET, reserve, prepayments)


def enter(gate: Gate, times: int) -> int:
    """How many were let in."""
    let_in = 0
    for _ in range(times):
        if gate.enter() is None:
            let_in += 1
            gate.leave()
    return let_in


def retries(ledger: Counting) -> int:
    """How many requests the budget knows of."""
    claims = ledger.prepare([RETRY])
    return sum(ledger.take(claims) == TAKEN for _ in range(1000))


def test_a_busy_gate_makes_one_call_for_many_requests() -> None:
    counting, prepayments = ledger(), Prepayments()
    busy = gate(counting, prepayments)
    assert enter(busy, BUSY) == counting.calls == BUSY
    assert enter(busy, 10 * COUNT) == 10 * COUNT
    assert counting.calls == BUSY + 10


def test_a_gate_that_is_seldom_entered_pays_one_by_one() -> None:
    counting, prepayments = ledger(), Prepayments()
    quiet = gate(counting, prepayments)
    for _ in range(5):
        enter(quiet, BUSY)
        prepayments.tick()
    assert counting.calls == 5 * BUSY
    assert counting.left(BUCKET) == LARGE - 5 * BUSY


def test_a_small_limit_is_exact_to_the_request() -> None:
    counting, prepayments = ledger(), Prepayments()
    small = Tokens(1, SECOND, 2 * PART - 1)
    one, other = gate(counting, prepayments, small), gate(counting, prepayments, small)
    assert enter(one, 3 * BUSY) + enter(other, 2 * small.burst) == small.burst


def test_a_limit_that_is_used_up_lets_in_exactly_its_burst() -> None:
    counting, prepayments = ledger(), Prepayments()
    gates = [gate(counting, prepayments) for _ in range(3)]
    let_in = 0
    while more := sum(enter(one, 7) for one in gates):
        let_in += more
    assert let_in == LARGE


STEPS = st.tuples(st.integers(0, 1), st.sampled_from([0, 1, 33, 9000]), st.integers(0, 120))


@given(st.lists(STEPS, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_two_workers_never_let_in_more_than_the_limit_in_any_window(steps: list[tuple[int, int, int]]) -> None:
    """Each step: a worker, requests that come to it at once, and milliseconds until the next step."""
    limit = Tokens(1, SECOND // 100_000, 2 * PART)
    now = [SECOND]
    shared = Counting(lambda: now[0])
    workers = [Prepayments(), Prepayments()]
    gates = [gate(shared, one, narrowed(limit, len(workers))) for one in workers]
    let_in: list[tuple[int, int]] = []
    for worker, requests, pause in steps:
        let_in.append((now[0], enter(gates[worker], requests)))
        now[0] += pause * 1_000_000
        if pause > 100:
            for one in workers:
                one.tick()
    for first, (since, _) in enumerate(let_in):
        for last, (until, _) in enumerate(let_in[first:], first):
            assert sum(count for _, count in let_in[first : last + 1]) <= limit.burst + (until - since) // limit.period


@pytest.mark.parametrize(("ticks", "more"), [(1, COUNT - 1), (2, 0)])
def test_what_is_in_hand_comes_on_top_of_a_bucket_that_filled_up_until_the_second_tick(ticks: int, more: int) -> None:
    now = [SECOND]
    counting, prepayments = Counting(lambda: now[0]), Prepayments()
    bucket = narrowed(Tokens(1, SECOND // 10_000, LARGE + COUNT * PART // 512), 1)
    busy = gate(counting, prepayments, bucket)
    enter(busy, BUSY + 1)
    for _ in range(ticks):
        now[0] += SECOND // 4
        prepayments.tick()
    assert counting.left(bucket) == bucket.burst
    assert enter(busy, 2 * LARGE) == bucket.burst + more <= LARGE + COUNT * PART // 512


def test_after_a_tick_without_a_payment_nothing_is_in_hand_and_all_is_counted() -> None:
    counting, prepayments = ledger(), Prepayments()
    busy = gate(counting, prepayments)
    made = enter(busy, BUSY + COUNT + 3)
    assert counting.left(BUCKET) < LARGE - made
    prepayments.tick()
    assert counting.left(BUCKET) < LARGE - made  # it paid during the tick: it is busy
    prepayments.tick()
    assert counting.left(BUCKET) == LARGE - made
    assert retries(counting) == made


def test_a_budget_never_counts_a_request_that_was_not_made() -> None:
    counting, prepayments = ledger(), Prepayments()
    busy = gate(counting, prepayments)
    made = enter(busy, BUSY + COUNT // 2)
    assert retries(counting) <= made


def test_a_new_snapshot_leaves_nothing_in_hand() -> None:
    counting, prepayments = ledger(), Prepayments()
    busy = gate(counting, prepayments)
    made = enter(busy, BUSY + 1)
    prepayments.close()
    assert counting.left(BUCKET) == LARGE - made


def test_only_so_many_gates_have_something_in_hand() -> None:
    counting, prepayments = ledger(), Prepayments()
    gates = [gate(counting, prepayments) for _ in range(GATES + 1)]
    made = sum(enter(one, BUSY + 1) for one in gates)
    assert counting.left(BUCKET) == LARGE - made - GATES * (COUNT - 1)


def test_a_new_snapshot_is_in_force_though_what_is_in_hand_cannot_be_given_back() -> None:
    class Failing(LocalLedger):
        def give(self, prepared: Prepared) -> None:
            raise OSError("no memory")

    async def conversation() -> None:
        async with Proxy(answer=OK, ledger=Failing(lambda: SECOND)) as p:
            reported: list[object] = []
            p.engine.loop.set_exception_handler(lambda _loop, context: reported.append(context))
            rule = RateLimitRule("all", Limit(LARGE, 1000, LARGE))
            p.destination = replace(p.destination, rate_limits=(RateLimitPolicy("shop/limits", (rule,)),))
            p.apply(p.destination)
            client = await p.connect()
            for _ in range(BUSY + 2):
                assert await ask(client) == (200, b"ok")
            p.caller = replace(CALLER, limits=PodLimits("shop/caps", max_parallel_requests=3))
            p.apply(p.destination)
            (tenant,) = p.engine.tenants
            assert (tenant.max_requests, len(reported)) == (3, 1)
            assert await ask(client) == (200, b"ok")

    run(conversation())


def test_a_gate_that_cannot_pay_makes_room_for_one_that_can() -> None:
    counting, prepayments = ledger(), Prepayments()
    emptied = [Tokens(10 + number, SECOND, LARGE) for number in range(GATES)]
    for bucket in emptied:
        assert counting.take(counting.prepare([replace(bucket, count=LARGE - 2 * BUSY)])) == TAKEN
    for bucket in emptied:
        enter(gate(counting, prepayments, bucket), BUSY + 1)
    counting.calls = 0
    enter(gate(counting, prepayments), BUSY + COUNT)
    assert counting.calls == BUSY + 1


def test_a_place_is_taken_for_each_request_though_its_tokens_are_paid() -> None:
    counting, prepayments = ledger(), Prepayments()
    slot = Slot(9, 3)
    reserve = Reserve(counting, slot)  # which keeps nothing of so small a cap, but for the one place put there
    busy = gate(counting, prepayments, reserve=reserve)
    reserve.most = 1
    enter(busy, BUSY + 2)
    reserve.most = 0
    assert [busy.enter() for _ in range(4)] == [None, None, None, slot]
    assert counting.held(slot) == 3
