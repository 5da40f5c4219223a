"""Lanes on the loop: a polite pod beside a greedy one, asyncio beside both, and what a fault costs."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from nodeagent.core.fairness import MOST_EVENTS, SLICE, WINDOW
from nodeagent.proxy.data_loop import COLLECT_AFTER, DataLoop
from nodeagent.proxy.lane import READ, Lane
from tests.proxy.harness import run

GREEDY = 500
COST = 50e-6


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """Windows are wall time and their use is processor time: without it other processes decide who is behind."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # a nice level counts within its session only
    yield
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def loop() -> DataLoop:
    found = asyncio.get_running_loop()
    assert isinstance(found, DataLoop)
    return found


def spin(seconds: float) -> None:
    """Processor time, so that other processes of the machine do not count."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@contextmanager
def always_ready(lane: Lane, count: int, work: Callable[[], None]) -> Iterator[None]:
    """`count` sockets that are readable for ever; `work` is done for each event."""
    with ExitStack() as stack:
        watched = []
        for _ in range(count):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            theirs.send(b"x")
            lane.watch(ours.fileno(), READ, lambda _events: work())
            watched.append(ours)
        try:
            yield
        finally:
            for ours in watched:
                lane.unwatch(ours.fileno())


class Polite:
    """One socket that is told apart from the greedy ones by how many of their events it waited for."""

    def __init__(self, lane: Lane, greedy_events: list[float]) -> None:
        self.ours, self.theirs = socket.socketpair()
        self._events = greedy_events
        self._asked_at = 0
        self.waits: list[int] = []
        lane.watch(self.ours.fileno(), READ, self._served)
        self._lane = lane

    def ask(self) -> None:
        self._asked_at = len(self._events)
        self.theirs.send(b"x")

    def _served(self, _events: int) -> None:
        self.ours.recv(1)
        self.waits.append(len(self._events) - self._asked_at)

    def close(self) -> None:
        self._lane.unwatch(self.ours.fileno())
        self.ours.close()
        self.theirs.close()


def test_a_polite_pod_beside_500_busy_sockets_waits_for_two_slices_at_most() -> None:
    async def conversation() -> None:
        events: list[float] = []
        polite = Polite(loop().poller.lane(), events)

        def work() -> None:
            spin(COST)
            events.append(0.0)
            if len(events) % 97 == 0:
                polite.ask()

        with always_ready(loop().poller.lane(), GREEDY, work):
            await asyncio.sleep(1.0)
        polite.close()
        first, *later = polite.waits
        assert len(later) > 10
        assert first <= MOST_EVENTS
        assert max(later) <= 2 * SLICE / COST

    run(conversation())


async def share_of_work(lane: Lane, events: list[float], work: Callable[[], None], seconds: float) -> float:
    """Of the processor's time, what is `work`; the rest is the loop's own, which depends on the machine."""
    with always_ready(lane, 50, work):
        began, before = time.thread_time(), len(events)
        await asyncio.sleep(seconds)
        return (len(events) - before) * COST / (time.thread_time() - began)


def test_a_pod_that_is_behind_gets_all_the_time_that_others_leave() -> None:
    async def conversation() -> None:
        greedy, events = loop().poller.lane(), [0.0]

        def work() -> None:
            spin(COST)
            events.append(time.monotonic())

        alone = await share_of_work(loop().poller.lane(), events, work, 2 * WINDOW)
        polite = Polite(loop().poller.lane(), events)

        def work_and_ask() -> None:
            work()
            if len(events) % 29 == 0:
                polite.ask()

        beside = await share_of_work(greedy, events, work_and_ask, 6 * WINDOW)
        polite.close()
        assert greedy.share.behind >= 2
        assert beside > 0.85 * alone
        assert max(polite.waits[1:]) <= 2 * SLICE / COST

    run(conversation())


def test_a_pod_that_nobody_waits_for_is_never_behind() -> None:
    async def conversation() -> None:
        greedy, idle = loop().poller.lane(), loop().poller.lane()
        with always_ready(greedy, 50, lambda: spin(COST)), always_ready(idle, 0, lambda: None):
            await asyncio.sleep(5 * WINDOW)
        assert not greedy.share.behind

    run(conversation())


def test_timers_and_callbacks_of_asyncio_go_on_beside_busy_pods() -> None:
    async def conversation() -> None:
        with always_ready(loop().poller.lane(), 100, lambda: spin(COST)):
            began, turns = time.monotonic(), 0
            while time.monotonic() - began < 0.3:
                await asyncio.sleep(0.001)
                turns += 1
            assert turns > 30
            done = loop().create_future()
            loop().call_soon(done.set_result, None)
            await asyncio.wait_for(done, 0.1)

    run(conversation())


def test_a_callback_asked_for_by_a_handler_is_not_kept_waiting() -> None:
    async def conversation() -> None:
        ours, theirs = socket.socketpair()
        came = loop().create_future()
        lane = loop().poller.lane()

        def handler(_events: int) -> None:
            lane.unwatch(ours.fileno())
            loop().call_soon(came.set_result, None)
            loop().call_later(0.01, later.set_result, None)

        later = loop().create_future()
        with ours, theirs:
            lane.watch(ours.fileno(), READ, handler)
            theirs.send(b"x")
            await asyncio.wait_for(came, 0.2)
            await asyncio.wait_for(later, 0.2)

    run(conversation())


def test_a_fault_in_a_handler_costs_its_event_only() -> None:
    async def conversation() -> None:
        errors: list[object] = []
        loop().set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
        lane, seen = loop().poller.lane(), []

        def broken() -> None:
            seen.append(1)
            raise ValueError

        with always_ready(lane, 2, broken):
            await asyncio.sleep(0.01)
        assert len(seen) > 2
        assert len(errors) == len(seen)

    run(conversation())


def test_a_lane_that_ends_in_the_middle_of_a_round_is_served_no_more() -> None:
    async def conversation() -> None:
        poller = loop().poller
        lanes, served = [poller.lane(), poller.lane()], []
        with ExitStack() as stack:
            pairs = [socket.socketpair() for _ in lanes]
            for one in (sock for pair in pairs for sock in pair):
                stack.enter_context(one)

            def handler(mine: int) -> Callable[[int], None]:
                def end_the_other(_events: int) -> None:
                    served.append(mine)
                    lanes[mine].unwatch(pairs[mine][0].fileno())
                    lanes[1 - mine].unwatch(pairs[1 - mine][0].fileno())
                    poller.drop(lanes[1 - mine])

                return end_the_other

            for mine, (lane, (ours, theirs)) in enumerate(zip(lanes, pairs, strict=True)):
                lane.watch(ours.fileno(), READ, handler(mine))
                theirs.send(b"x")
            await asyncio.sleep(0.01)
        assert len(served) == 1

    run(conversation())


def test_the_young_are_collected_after_so_many_events_though_no_more_objects_are_made_than_freed() -> None:
    """Or a collection would have to walk all that is in flight."""

    async def conversation() -> None:
        events: list[list[tuple[int]]] = []
        kept: list[list[tuple[int]]] = [[] for _ in range(GREEDY)]

        def work() -> None:
            events.append([])
            kept[len(events) % GREEDY] = [(len(events),) for _ in range(90)]  # in the place of as many

        before, gc_was = gc.get_stats()[0]["collections"], gc.get_threshold()
        gc.set_threshold(0)  # as if CPython saw no reason
        try:
            with always_ready(loop().poller.lane(), GREEDY, work):
                await asyncio.sleep(0.2)
        finally:
            gc.set_threshold(*gc_was)
        assert gc.get_stats()[0]["collections"] - before >= len(events) // (COLLECT_AFTER + MOST_EVENTS) > 2

    run(conversation())


def test_a_collection_is_a_piece_of_work_that_counts_as_a_stall_and_that_no_pod_is_charged_for() -> None:
    long = 0.02

    def slowly(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 0:
            spin(long)

    async def conversation() -> None:
        poller = loop().poller
        lane = poller.lane()
        poller.take_longest()
        gc_was = gc.get_threshold()
        gc.set_threshold(0)
        gc.callbacks.append(slowly)
        try:
            with always_ready(lane, GREEDY, lambda: None):
                await asyncio.sleep(0.09)  # not a window yet: turns are counted
        finally:
            gc.callbacks.remove(slowly)
            gc.set_threshold(*gc_was)
        longest, busiest = poller.take_longest()
        assert min(longest, busiest) >= long
        assert lane.share.used + lane.share.tag < long
        assert lane.share.dearest < long / MOST_EVENTS

    run(conversation())
