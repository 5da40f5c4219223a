from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nodeagent.agent.netns_child import LingeringChild
from nodeagent.kernel.netns import NetlinkError


class Child:
    """A child that answers with how often it was asked."""

    made: list[Child]

    def __init__(self) -> None:
        self.asked = 0
        self.closed = False
        self.made.append(self)

    def answer(self) -> int:
        assert not self.closed
        self.asked += 1
        return self.asked

    def fail(self) -> None:
        raise NetlinkError("it ended")

    def close(self) -> None:
        self.closed = True


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


def test_questions_in_a_row_go_to_one_child_and_close_ends_it(made: list[Child]) -> None:
    async def scenario() -> list[int]:
        lingers = lingering(5)
        answers = [await lingers.ask(answer), await lingers.ask(answer)]
        answers += await asyncio.gather(lingers.ask(answer), lingers.ask(answer))
        await lingers.close()
        return answers

    assert asyncio.run(scenario()) == [1, 2, 3, 4]
    assert [child.closed for child in made] == [True]


def test_a_child_that_nobody_asks_ends(made: list[Child]) -> None:
    async def scenario() -> None:
        lingers = lingering(0.02)
        await lingers.ask(answer)
        await asyncio.sleep(0.2)
        assert [child.closed for child in made] == [True]
        assert await lingers.ask(answer) == 1
        await lingers.close()

    asyncio.run(scenario())
    assert [child.closed for child in made] == [True, True]


def test_a_child_that_failed_is_not_asked_again(made: list[Child]) -> None:
    async def scenario() -> None:
        lingers = lingering(5)
        with pytest.raises(NetlinkError):
            await lingers.ask(fail)
        assert await lingers.ask(answer) == 1
        await lingers.close()

    asyncio.run(scenario())
    assert [child.closed for child in made] == [True, True]
