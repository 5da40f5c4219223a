"""A worker without connections wakes half as often, and the first connection finds time counted as ever."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nodeagent.proxy import worker as worker_module
from nodeagent.proxy.engine import IDLE_TICK_SECONDS, TICK_SECONDS
from nodeagent.proxy.worker import Worker
from tests.proxy.harness import Proxy, run, settle


def until_tick(proxy: Proxy) -> float:
    assert proxy.engine._timer is not None
    return proxy.engine._timer.when() - asyncio.get_running_loop().time()


def test_ticks_are_rare_until_a_connection_comes_and_again_once_it_is_gone() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            assert TICK_SECONDS < until_tick(proxy) <= IDLE_TICK_SECONDS
            client = await proxy.connect()
            await settle()
            assert until_tick(proxy) <= TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            assert until_tick(proxy) <= TICK_SECONDS
            client.close()
            while proxy.engine.connections:
                await settle()
            last = proxy.engine._timer
            while proxy.engine._timer is last:
                await settle(0.005)
            assert until_tick(proxy) > TICK_SECONDS

    run(conversation())


def test_the_coarse_clock_is_right_when_the_first_connection_comes() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            await asyncio.sleep(0.2)
            before = asyncio.get_running_loop().time()
            await proxy.connect()
            await settle()
            assert proxy.engine.tick >= before

    run(conversation())


def test_a_connection_more_does_not_put_the_next_tick_off() -> None:
    async def conversation() -> None:
        async with Proxy() as proxy:
            first = await proxy.connect()
            await settle()
            due = proxy.engine._timer
            first.close()
            await settle()
            await proxy.connect()
            await settle()
            assert proxy.engine._timer is due

    run(conversation())


class Channel:
    def __init__(self) -> None:
        self.reports: list[tuple[str, dict[str, Any]]] = []

    def report(self, op: str, **fields: Any) -> None:
        self.reports.append((op, fields))


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        pytest.param([{"accepted": 1}, {"accepted": 1}, {"accepted": 1}], [1], id="the same"),
        pytest.param([{"accepted": 1}, {"accepted": 2}, {"accepted": 1}], [1, 2, 1], id="others, and back"),
    ],
)
def test_the_agent_hears_counts_that_it_does_not_know(counts: list[dict[str, float]], told: list[int]) -> None:
    worker, channel = Worker.__new__(Worker), Channel()
    worker._reported, worker._channel = {}, channel  # type: ignore[assignment]  # only `report` of it is used
    for one in counts:
        worker._report(one)
    assert channel.reports == [("stats", {"accepted": number}) for number in told]


def test_what_lives_is_taken_from_the_collector_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a full collection would walk all of it while requests wait."""
    spared: list[float] = []
    monkeypatch.setattr(worker_module, "_spare_collector", lambda: spared.append(1))
    one = object.__new__(Worker)
    stats = SimpleNamespace(as_json=dict)
    one._engine = cast("Any", SimpleNamespace(stats=stats, gauges=dict))
    one._sockets = cast("Any", SimpleNamespace(tick=lambda _now: None, ended=True))
    one._ledger = cast("Any", SimpleNamespace(counts=dict))
    one._drain_until = one._next_stats = 0.0
    one._reported = {}
    for now in (10.0, 10.5, 11.0, 11.5, 12.0):
        one._on_tick(now)
    assert len(spared) == 3
