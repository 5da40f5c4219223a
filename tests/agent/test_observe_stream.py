from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nodeagent.admin.api import BadQueryError
from nodeagent.agent import observe_stream
from nodeagent.agent.observers import Observers

RECORD = {"source": "shop/web", "status": 200}


def make_observers() -> Observers:
    return Observers(lambda _on: None)


async def _all(observers: Observers, query: dict[str, str]) -> list[Any]:
    return [record async for record in observe_stream.stream(observers, query, lambda _source: "")]


@pytest.mark.parametrize("follow", ["0", "1"])
@pytest.mark.parametrize("query", [{"last": "many"}, {"status": "4zz"}])
def test_a_query_that_makes_no_sense_is_refused_before_anything_is_read(follow: str, query: dict[str, str]) -> None:
    with pytest.raises(BadQueryError):
        observe_stream.stream(make_observers(), {**query, "follow": follow}, lambda _source: "")


def test_without_follow_the_last_records_come_and_then_the_end() -> None:
    observers = make_observers()
    for number in range(5):
        observers.publish({**RECORD, "path": f"/{number}"})
    found = asyncio.run(_all(observers, {"last": "2"}))
    assert [record["path"] for record in found] == ["/3", "/4"]


def test_a_followed_stream_watches_from_its_first_read_until_it_is_closed() -> None:
    async def scenario() -> tuple[Any, bool, bool]:
        observers = make_observers()
        stream = observe_stream.stream(observers, {"follow": "1"}, lambda _source: "")
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        during = observers.watching
        observers.publish(RECORD)
        record = await first
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator; the interface promises an iterator
        return record, during, observers.watching

    assert asyncio.run(scenario()) == (RECORD, True, False)
