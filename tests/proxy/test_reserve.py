"""Places kept between two requests: only while there is room, counted as in use, and given back in time."""

from __future__ import annotations

import pytest

from nodeagent.core.ledger import TAKEN, BudgetRequest, LocalLedger, Slot
from nodeagent.core.traffic import CircuitBreaker
from nodeagent.proxy.policies.gate import Gate
from nodeagent.proxy.policies.reserve import PART, SPARES, Reserve
from tests.proxy.harness import Proxy, run, settle
from tests.proxy.test_managed import OK, ask, policy

SLOT = Slot(1, 160)


class Counting(LocalLedger):
    calls = 0

    def take(self, prepared: object) -> int:
        self.calls += 1
        return super().take(prepared)  # type: ignore[arg-type]  # what `prepare` made

    def give(self, prepared: object) -> None:
        self.calls += 1
        super().give(prepared)  # type: ignore[arg-type]  # what `prepare` made


class Failing(LocalLedger):
    """Gives back one place and no more."""

    gives = 1

    def give(self, prepared: object) -> None:
        self.gives -= 1
        if self.gives < 0:
            raise OSError("no memory")
        super().give(prepared)  # type: ignore[arg-type]  # what `prepare` made


def made(ledger: LocalLedger, slot: Slot = SLOT, budget: BudgetRequest | None = None) -> tuple[Reserve, Gate]:
    reserve = Reserve(ledger, slot)
    reserve.tick()
    return reserve, Gate(ledger, (), slot, budget, reserve)


def test_a_place_that_comes_back_is_used_again_without_a_call() -> None:
    ledger = Counting(lambda: 0)
    _, gate = made(ledger)
    assert gate.enter() is None
    gate.leave()
    calls = ledger.calls
    for _ in range(10):
        assert gate.enter() is None
        assert ledger.held(SLOT) == 1
        gate.leave()
    assert ledger.calls == calls


def test_what_a_place_does_not_cover_is_still_claimed() -> None:
    ledger = Counting(lambda: 0)
    _, gate = made(ledger, budget=BudgetRequest(2, 1000))
    for _ in range(3):
        assert gate.enter() is None
        gate.leave()
    assert ledger.calls == 3


def test_no_more_is_kept_than_a_part_of_the_cap_and_all_of_it_goes_back_at_the_tick() -> None:
    ledger = LocalLedger(lambda: 0)
    for limit in (PART - 1, PART, SPARES * PART * 10):
        slot = Slot(limit, limit)
        reserve, gate = made(ledger, slot)
        entered = min(limit, 20)
        for _ in range(entered):
            assert gate.enter() is None
        for _ in range(entered):
            gate.leave()
        assert ledger.held(slot) == reserve.spare == min(SPARES, limit // PART, entered)
        reserve.tick()
        assert ledger.held(slot) == reserve.spare == 0


def test_near_the_cap_nothing_is_kept() -> None:
    ledger = LocalLedger(lambda: 0)
    reserve, gate = made(ledger)
    others = ledger.prepare([SLOT])
    for _ in range(SLOT.limit // 2):
        assert ledger.take(others) == TAKEN
    reserve.tick()
    assert gate.enter() is None
    gate.leave()
    assert (reserve.spare, ledger.held(SLOT)) == (0, SLOT.limit // 2)


def test_what_is_kept_counts_as_in_use() -> None:
    ledger = LocalLedger(lambda: 0)
    reserve, gate = made(ledger)
    for _ in range(5):
        gate.enter()
    for _ in range(5):
        gate.leave()
    others, taken = ledger.prepare([SLOT]), 0
    while ledger.take(others) == TAKEN:
        taken += 1
    assert taken == SLOT.limit - reserve.spare
    assert gate.enter() is None


def test_no_place_is_given_back_twice_when_the_ledger_fails_in_between() -> None:
    """A second time it would be the place of a request that is under way."""
    ledger = Failing(lambda: 0)
    reserve, gate = made(ledger)
    for _ in range(7):
        gate.enter()
    for _ in range(5):
        gate.leave()
    with pytest.raises(OSError, match="no memory"):
        reserve.close()
    ledger.gives = 10
    reserve.close()
    assert ledger.held(SLOT) == 2 + 1, "of the requests under way, and the one that could not be given back"


def test_a_worker_that_is_quiet_holds_nothing_after_the_next_tick() -> None:
    async def conversation() -> None:
        breaker = CircuitBreaker(max_parallel_requests=100)
        async with Proxy(answer=OK, traffic=policy(circuit_breaker=breaker)) as p:
            client = await p.connect()
            assert await ask(client) == (200, b"ok")
            await settle(0.3)
            for _ in range(5):
                assert await ask(client) == (200, b"ok")
            (cluster,) = p.engine.handlings.clusters()
            slot = cluster.caps.parallel_requests
            assert slot is not None
            await settle(0.3)
            assert p.ledger.held(slot) == 0

    run(conversation())
