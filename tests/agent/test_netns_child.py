from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from nodeagent.agent.netns_child import LingeringChild
from nodeagent.kernel.netns import CONNECTIONS, INSPECT, NamespaceInfo, NetlinkError


class Child:
    """A child that answers with how often it was asked."""

    made: list[Child]

    def __init__(self) -> None:
        self.asked = 0
        self.closed = self.died = False
        self.made.append(self)

    @property
    def is_alive(self) -> bool:
        return not self.died

    def answer(self) -> int:
        assert not self.closed
        self.asked += 1
        return self.asked

    def fail(self) -> None:
        raise NetlinkError("it ended")

    def close(self) -> None:
        self.closed = True

    def inspect(self, _paths: list[str]) -> dict[str, NamespaceInfo]:
        if len(self.made) == 1:
            self.fail()
        return {"/proc/1/ns/net": NamespaceInfo(7)}


@pytest.fixture
def made() -> list[Child]:
    Child.made = []
    return Child.made


def lingering(seconds: float) -> LingeringChild:
    start: Any = Child
    return LingeringChild(start, seconds)


def answer(child: Any) -> int:
    count: int = child.answer()
    return count


def fail(child: Any) -> None:
    child.fail()


async def started(made: list[Child]) -> None:
    while not made:  # noqa: ASYNC110 - it is a thread that makes one
        await asyncio.sleep(0.001)


def test_one_that_died_while_nobody_asked_is_not_asked_again(made: list[Child]) -> None:
    async def scenario() -> int:
        lingers = lingering(5)
        await lingers.ask(INSPECT, answer)
        made[0].died = True
        count = await lingers.ask(CONNECTIONS, answer)
        await lingers.close()
        return count

    assert asyncio.run(scenario()) == 1
    assert [child.closed for child in made] == [True, True]


def test_a_pod_does_not_wait_because_the_child_failed_once(made: list[Child]) -> None:
    async def scenario() -> dict[str, NamespaceInfo]:
        lingers = lingering(5)
        found = await lingers.inspect(["/proc/1/ns/net"])
        await lingers.close()
        return found

    assert asyncio.run(scenario()) == {"/proc/1/ns/net": NamespaceInfo(7)}
    assert len(made) == 2


def test_questions_in_a_row_go_to_one_child_and_close_ends_it(made: list[Child]) -> None:
    async def scenario() -> list[int]:
        lingers = lingering(5)
        answers = [await lingers.ask(INSPECT, answer), await lingers.ask(INSPECT, answer)]
        answers += await asyncio.gather(lingers.ask(INSPECT, answer), lingers.ask(INSPECT, answer))
        await lingers.close()
        return answers

    assert asyncio.run(scenario()) == [1, 2, 3, 4]
    assert [child.closed for child in made] == [True]


def test_a_child_that_nobody_asks_ends(made: list[Child]) -> None:
    async def scenario() -> None:
        lingers = lingering(0.02)
        await lingers.ask(INSPECT, answer)
        await asyncio.sleep(0.2)
        assert [child.closed for child in made] == [True]
        assert await lingers.ask(INSPECT, answer) == 1
        await lingers.close()

    asyncio.run(scenario())
    assert [child.closed for child in made] == [True, True]


def test_a_child_that_failed_is_not_asked_again(made: list[Child]) -> None:
    async def scenario() -> None:
        lingers = lingering(5)
        with pytest.raises(NetlinkError):
            await lingers.ask(INSPECT, fail)
        assert await lingers.ask(INSPECT, answer) == 1
        await lingers.close()

    asyncio.run(scenario())
    assert [child.closed for child in made] == [True, True]


def test_a_question_does_not_wait_for_one_of_the_other_kind(made: list[Child]) -> None:
    other_is_done = threading.Event()

    def long(child: Any) -> int:
        assert other_is_done.wait(5)
        return answer(child)

    async def scenario() -> list[int]:
        lingers = lingering(5)
        under_way = asyncio.ensure_future(lingers.ask(CONNECTIONS, long))
        first = await lingers.ask(INSPECT, answer)
        other_is_done.set()
        answers = [first, await under_way]
        await lingers.close()
        return answers

    assert asyncio.run(scenario()) == [1, 2]
    assert [child.closed for child in made] == [True]


def test_who_is_under_way_when_the_other_kind_fails_gets_its_answer_and_the_next_a_new_child(made: list[Child]) -> None:
    other_has_failed = threading.Event()

    def long(child: Any) -> int:
        assert other_has_failed.wait(5)
        return answer(child)

    async def scenario() -> None:
        lingers = lingering(5)
        under_way = asyncio.ensure_future(lingers.ask(INSPECT, long))
        with pytest.raises(NetlinkError):
            await lingers.ask(CONNECTIONS, fail)
        assert await lingers.ask(CONNECTIONS, answer) == 1
        other_has_failed.set()
        assert await under_way == 1
        assert await lingers.ask(INSPECT, answer) == 2
        await lingers.close()

    asyncio.run(scenario())
    assert [(child.asked, child.closed) for child in made] == [(1, True), (2, True)]


def test_a_child_whose_asker_was_cancelled_ends(made: list[Child]) -> None:
    cancelled = threading.Event()

    async def scenario() -> None:
        lingers = lingering(5)
        under_way = asyncio.ensure_future(lingers.ask(INSPECT, lambda _child: cancelled.wait(5)))
        await started(made)
        under_way.cancel()
        await asyncio.wait([under_way])
        cancelled.set()
        assert await lingers.ask(INSPECT, answer) == 1
        await lingers.close()

    asyncio.run(scenario())
    assert [child.closed for child in made] == [True, True]


def test_who_is_expected_meets_a_child_that_was_started_before(made: list[Child]) -> None:
    async def scenario() -> None:
        lingers = lingering(5)
        lingers.expect()
        lingers.expect()
        await started(made)
        assert await lingers.ask(INSPECT, answer) == 1
        await lingers.close()

    asyncio.run(scenario())
    assert [child.closed for child in made] == [True]


def test_a_child_that_was_expected_and_is_not_needed_ends(made: list[Child]) -> None:
    async def scenario() -> None:
        lingers = lingering(5)
        lingers.expect()
        await lingers.close()

    asyncio.run(scenario())
    assert [child.closed for child in made] == [True]
