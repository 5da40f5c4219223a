"""The broker's health as the agent sees it; the broker here is a script that beats and does nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable

from nodeagent.agent.broker_client import BrokerClient
from nodeagent.agent.health import Limits

SCRIPT = """
import select, socket, sys
sys.path[:0] = PATH
from nodeagent.proxy.pulse import Pulse
end, pulse = socket.socket(fileno=int(sys.argv[2])), Pulse(int(sys.argv[4]))
while not select.select([end], [], [], 0.05)[0]:
    if BEATS:
        pulse.beat()
"""
LIMITS = Limits(check=0.05, beat=0.5, period=0.05, start=1.0)


def run(scenario: Callable[[BrokerClient, list[str]], Awaitable[None]], *, beats: bool = True) -> list[str]:
    """Why the broker was said to be dead, each time."""
    dead: list[str] = []

    async def main() -> None:
        script = SCRIPT.replace("BEATS", str(beats)).replace("PATH", repr(sys.path))
        client = BrokerClient(dead.append, (sys.executable, "-S", "-c", script), LIMITS)
        client.start()
        await scenario(client, dead)
        await client.stop()

    asyncio.run(main())
    return dead


async def _until(condition: Callable[[], object], seconds: float = 5.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def test_a_broker_that_beats_is_left_alone() -> None:
    async def scenario(client: BrokerClient, _dead: list[str]) -> None:
        await asyncio.sleep(1.2)
        assert client.alive

    assert run(scenario) == []


def test_a_broker_that_stops_beating_is_killed_and_told_dead() -> None:
    async def scenario(client: BrokerClient, dead: list[str]) -> None:
        await asyncio.sleep(0.4)
        os.kill(client.pid, signal.SIGSTOP)
        assert await _until(lambda: dead) < 2.0
        assert not client.alive

    (why,) = run(scenario)
    assert "did not run" in why


def test_a_broker_that_never_beats_has_the_time_that_a_start_may_take() -> None:
    async def scenario(_client: BrokerClient, dead: list[str]) -> None:
        await asyncio.sleep(0.7)
        assert dead == []
        await _until(lambda: dead)

    assert len(run(scenario, beats=False)) == 1


def test_a_broker_is_not_blamed_for_the_time_that_we_did_not_run_ourselves() -> None:
    async def scenario(client: BrokerClient, dead: list[str]) -> None:
        await asyncio.sleep(0.4)
        os.kill(client.pid, signal.SIGSTOP)
        time.sleep(0.8)  # noqa: ASYNC251 - the loop is to stand still
        os.kill(client.pid, signal.SIGCONT)
        await asyncio.sleep(0.3)
        assert client.alive

    assert run(scenario) == []
