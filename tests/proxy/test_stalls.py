"""The longest stall of a worker's loop: what counts, and for how long it is shown."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.proxy.data_loop import DataLoop, DirectSelector
from nodeagent.proxy.lane import READ
from nodeagent.proxy.stalls import WINDOW, Stalls
from tests.proxy.harness import run

BUSY = 0.03


def busy() -> None:
    time.sleep(BUSY)


def data_loop() -> DataLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, DataLoop)
    return loop


async def handled(work: Callable[[], None]) -> DirectSelector:
    """The handler of a data socket did this work, and the poller was told nothing else."""
    poller, (ours, theirs) = data_loop().poller, socket.socketpair()
    lane = poller.lane()

    def handler(_events: int) -> None:
        ours.recv(1)
        work()

    with ours, theirs:
        lane.watch(ours.fileno(), READ, handler)
        await asyncio.sleep(0)
        poller.take_longest()
        theirs.send(b"x")
        await asyncio.sleep(BUSY)
        lane.unwatch(ours.fileno())
    return poller


def test_a_handler_that_takes_long_is_a_stall() -> None:
    async def conversation() -> None:
        poller = await handled(busy)
        assert poller.take_longest()[0] >= BUSY

    run(conversation())


def test_a_callback_of_asyncio_that_takes_long_is_a_stall_and_waiting_is_none() -> None:
    async def conversation() -> None:
        poller = data_loop().poller
        await asyncio.sleep(0)
        poller.take_longest()
        await asyncio.sleep(4 * BUSY)
        assert poller.take_longest()[0] < 4 * BUSY
        busy()
        await asyncio.sleep(0)
        assert poller.take_longest()[0] >= BUSY

    run(conversation())


def test_a_pause_of_the_garbage_collector_is_a_stall() -> None:
    async def conversation() -> None:
        def pause(phase: str, _info: dict[str, int]) -> None:
            if phase == "stop":
                busy()

        await asyncio.sleep(0)
        data_loop().poller.take_longest()
        gc.callbacks.append(pause)
        try:
            gc.collect(0)
        finally:
            gc.callbacks.remove(pause)
        await asyncio.sleep(0)
        assert data_loop().poller.take_longest()[0] >= BUSY

    run(conversation())


def spin() -> None:
    end = time.thread_time() + BUSY
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize(("work", "least", "most"), [(spin, BUSY, 1.0), (busy, 0.0, BUSY / 2)], ids=["spun", "slept"])
def test_processor_time_is_told_apart(work: Callable[[], None], least: float, most: float) -> None:
    async def conversation() -> None:
        poller = await handled(work)
        assert least <= poller.take_longest()[1] < most
        poller.take_longest()
        work()
        await asyncio.sleep(0)
        assert least <= poller.take_longest()[1] < most

    run(conversation())


def test_processor_time_of_earlier_pieces_is_not_charged_to_a_later_one() -> None:
    async def conversation() -> None:
        poller = data_loop().poller
        for _ in range(2):
            spin()
            await asyncio.sleep(0)
        poller.take_longest()
        busy()
        await asyncio.sleep(0)
        longest, busiest = poller.take_longest()
        assert longest >= BUSY
        assert busiest < BUSY / 2

    run(conversation())


notes = st.lists(st.tuples(st.floats(0, 1), st.floats(0, WINDOW)), max_size=30)


@given(notes)
def test_recent_shows_every_stall_of_the_last_window_and_none_older_than_two(steps: list[tuple[float, float]]) -> None:
    now, seen, stalls = 0.0, [(0.0, 0.0)], Stalls(0.0)
    for seconds, later in steps:
        now += later
        stalls.note(seconds, now)
        seen.append((now, seconds))
        assert stalls.recent >= max(one for at, one in seen if now - at < WINDOW)
        assert stalls.recent <= max(one for at, one in seen if now - at <= 2 * WINDOW)
        assert stalls.longest == max(one for _, one in seen)
