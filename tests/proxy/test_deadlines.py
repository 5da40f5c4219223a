"""Deadlines behind one timer: those that are missed are told in time, those that are met cost nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from nodeagent.proxy.deadlines import Deadlines, DeadlineTable
from tests.proxy.harness import run


def test_a_missed_deadline_is_told_in_time_and_a_met_one_never() -> None:
    async def conversation() -> None:
        loop, told = asyncio.get_running_loop(), dict[str, float]()

        def missed(item: str) -> None:
            told[item] = loop.time()

        deadlines = Deadlines[str](loop, 0.05, missed)
        began = {}
        for item in "abcd":
            began[item] = loop.time()
            deadlines.start(item, began[item])
            await asyncio.sleep(0.01)
        deadlines.stop("a")
        deadlines.stop("c")
        await asyncio.sleep(0.15)
        assert told.keys() == {"b", "d"}
        assert all(0.05 <= told[item] - began[item] < 0.08 for item in told)
        assert len(deadlines) == 0

    run(conversation())


def test_it_works_again_after_all_were_met() -> None:
    async def conversation() -> None:
        loop, told = asyncio.get_running_loop(), list[int]()
        deadlines = Deadlines[int](loop, 0.02, told.append)
        for number in range(3):
            deadlines.start(number, loop.time())
            deadlines.stop(number)
            await asyncio.sleep(0.03)
        assert told == []
        deadlines.start(9, loop.time())
        await asyncio.sleep(0.05)
        assert told == [9]

    run(conversation())


def test_a_bug_in_one_does_not_keep_the_others_from_being_told() -> None:
    async def conversation() -> None:
        loop, told, faults = asyncio.get_running_loop(), list[int](), list[dict[str, Any]]()
        loop.set_exception_handler(lambda _loop, context: faults.append(context))

        def missed(item: int) -> None:
            told.append(10 // item)

        deadlines = Deadlines[int](loop, 0.01, missed)
        for item in (0, 5):
            deadlines.start(item, loop.time())
        await asyncio.sleep(0.03)
        assert told == [2]
        assert len(faults) == 1

    run(conversation())


def test_lengths_that_nothing_uses_are_forgotten() -> None:
    async def conversation() -> None:
        table = DeadlineTable[int](asyncio.get_running_loop(), lambda _item: None)
        used, unused = table.of(1000), table.of(2000)
        used.start(1, 0.0)
        table.forget_unused()
        assert table.of(1000) is used
        assert table.of(2000) is not unused
        used.stop(1)

    run(conversation())
