from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from nodeagent.admin.scrapes import Scrapes


class Source:
    """Renders how often it was asked; `gate` holds a rendering back while it is not set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.rendered: list[str] = []
        self.threads: set[int] = set()

    def format_of(self, accept: str) -> str:
        return accept.partition(";")[0]

    def render(self, accept: str) -> tuple[bytes, str]:
        self.threads.add(threading.get_ident())
        self.rendered.append(accept)
        self.begun.set()
        assert self.gate.wait(5)
        return str(len(self.rendered)).encode(), accept


def run(scenario: Callable[[Source, Scrapes], Awaitable[None]]) -> None:
    async def whole() -> None:
        source = Source()
        scrapes = Scrapes(source)
        try:
            await scenario(source, scrapes)
        finally:
            source.gate.set()
            await scrapes.close()

    asyncio.run(whole())


async def under_way(source: Source) -> None:
    assert await asyncio.to_thread(source.begun.wait, 5)


def test_a_crowd_of_scrapes_costs_one_rendering_after_the_one_under_way() -> None:
    async def scenario(source: Source, scrapes: Scrapes) -> None:
        first = asyncio.ensure_future(scrapes.text("text"))
        await under_way(source)
        crowd = [asyncio.ensure_future(scrapes.text(f"text;q=0.{number}")) for number in range(50)]
        await asyncio.sleep(0)
        source.gate.set()
        assert (await first)[0] == b"1"
        assert {body for body, _ in await asyncio.gather(*crowd)} == {b"2"}  # read after they had asked
        assert len(source.rendered) == 2
        assert len(source.threads) == 1

    run(scenario)


def test_formats_do_not_share_a_text() -> None:
    async def scenario(source: Source, scrapes: Scrapes) -> None:
        asked = [asyncio.ensure_future(scrapes.text(accept)) for accept in ("text", "open", "text;q=1", "open;q=1")]
        source.gate.set()
        kinds = [content_type.partition(";")[0] for _, content_type in await asyncio.gather(*asked)]
        assert kinds == ["text", "open", "text", "open"]

    run(scenario)


def test_a_scrape_that_goes_away_does_not_end_what_others_wait_for() -> None:
    async def scenario(source: Source, scrapes: Scrapes) -> None:
        first = asyncio.ensure_future(scrapes.text("text"))
        await under_way(source)
        leaver, stayer = (asyncio.ensure_future(scrapes.text("text")) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(0)
        source.gate.set()
        assert (await stayer)[0] == b"2"
        assert (await first)[0] == b"1"

    run(scenario)
