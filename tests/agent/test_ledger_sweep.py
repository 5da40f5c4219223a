"""When the ledger's tables are swept: slowly, and while nobody answers by an older configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from nodeagent.agent.ledger_sweep import SWEEP_SECONDS, LedgerSweep
from nodeagent.agent.worker import State
from nodeagent.core.ledger_keys import ledger_keys
from nodeagent.core.model import Snapshot
from nodeagent.core.traffic import CircuitBreaker, TrafficPolicy
from tests.agent import samples
from tests.agent.fakes import FakeWorker, applied, make_fleet


class Keeper:
    def __init__(self) -> None:
        self.kept: list[Collection[int]] = []

    def forget_except(self, keys: Collection[int]) -> int:
        self.kept.append(keys)
        return 1


def limited() -> Snapshot:
    found = samples.snapshot()
    breaker = TrafficPolicy("shop/p", circuit_breaker=CircuitBreaker(1))
    cart = replace(found.destinations[samples.CART_VIP], traffic=breaker)
    return replace(found, destinations={**found.destinations, samples.CART_VIP: cart})


def test_a_sweep_keeps_what_the_snapshot_names_and_comes_once_a_minute() -> None:
    keeper, snapshot = Keeper(), limited()
    sweep = LedgerSweep(keeper, lambda: snapshot, 0.0)
    for now in (1.0, SWEEP_SECONDS - 1, SWEEP_SECONDS, SWEEP_SECONDS + 1, 2 * SWEEP_SECONDS):
        asyncio.run(sweep.look(now))
    assert keeper.kept == [ledger_keys(snapshot)] * 2
    assert keeper.kept[0]


def test_a_sweep_waits_until_every_worker_has_the_newest_snapshot() -> None:
    keeper = Keeper()
    have: list[Snapshot] = []
    sweep = LedgerSweep(keeper, lambda: have[-1] if have else None, 0.0)
    asyncio.run(sweep.look(SWEEP_SECONDS))
    assert keeper.kept == []
    have.append(limited())
    asyncio.run(sweep.look(SWEEP_SECONDS + 1))
    assert len(keeper.kept) == 1


def test_a_change_while_keys_are_computed_is_a_sweep_left_out() -> None:
    """What the newer snapshot names must not go."""
    keeper = Keeper()
    answers = iter([limited(), samples.snapshot()])
    asyncio.run(LedgerSweep(keeper, lambda: next(answers), 0.0).look(SWEEP_SECONDS))
    assert keeper.kept == []


def test_a_snapshot_is_acknowledged_when_those_that_drain_have_it_too(tmp_path: Path) -> None:
    old, new = FakeWorker(0, State.DRAINING), FakeWorker(1)
    fleet, _maps, _broker = make_fleet(tmp_path, old, new)
    first, second = samples.snapshot(1), samples.snapshot(2)
    fleet.publish(first)
    assert fleet.acknowledged() is None
    for worker in (old, new):
        applied(fleet, worker, 1)
    assert fleet.acknowledged() is first
    fleet.publish(second)
    applied(fleet, new, 2)
    assert fleet.acknowledged() is None
    fleet.supervisor._workers.remove(old)
    assert fleet.acknowledged() is second
