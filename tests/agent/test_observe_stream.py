from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from nodeagent.admin.api import BadQueryError
from nodeagent.agent import observe_stream
from nodeagent.agent.observers import Observers

RECORD = {"source": "shop/web", "status": 200}


def make_observers() -> Observers:
    return Observers(lambda _on: None)


async def _nobody() -> list[int]:
    return []


def open_stream(
    observers: Observers, query: dict[str, str], unconfirmed: Callable[[], Awaitable[list[int]]] = _nobody
) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
    return observe_stream.stream(observers, query, lambda _source: "", unconfirmed)


async def _all(observers: Observers, query: dict[str, str]) -> list[Any]:
    async with open_stream(observers, query) as records:
        return [record async for record in records]


@pytest.mark.parametrize("follow", ["0", "1"])
@pytest.mark.parametrize("query", [{"last": "many"}, {"status": "4zz"}])
def test_a_query_that_makes_no_sense_is_refused_before_the_stream_begins(follow: str, query: dict[str, str]) -> None:
    async def enter() -> None:
        async with open_stream(make_observers(), {**query, "follow": follow}):
            raise AssertionError("it began")

    with pytest.raises(BadQueryError):
        asyncio.run(enter())


def test_without_follow_the_last_records_come_and_then_the_end() -> None:
    observers = make_observers()
    for number in range(5):
        observers.publish({**RECORD, "path": f"/{number}"})
    found = asyncio.run(_all(observers, {"last": "2"}))
    assert [record["path"] for record in found] == ["/3", "/4"]


def test_a_followed_stream_holds_what_passes_from_its_begin_on_and_watches_until_it_is_left() -> None:
    async def scenario() -> None:
        observers = make_observers()
        async with open_stream(observers, {"follow": "1"}) as records:
            observers.publish(RECORD)  # before anything was read
            assert await anext(records) == {"notice": "watching (filters: none)"}
            assert await anext(records) == RECORD
            assert observers.watching
        assert not observers.watching

    asyncio.run(scenario())


def test_a_followed_stream_begins_when_the_workers_confirmed_and_names_those_that_did_not() -> None:
    async def scenario() -> None:
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        async def unconfirmed() -> list[int]:
            return await answer

        async def first() -> Any:
            async with open_stream(make_observers(), {"follow": "1"}, unconfirmed) as records:
                return await anext(records)

        asked = asyncio.ensure_future(first())
        await asyncio.sleep(0.05)
        assert not asked.done()
        answer.set_result([3])
        assert "worker 3 has not confirmed it" in (await asked)["notice"]

    asyncio.run(scenario())
