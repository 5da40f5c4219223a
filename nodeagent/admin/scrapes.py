"""Scrapes in a thread of their own: none delays the loop, nor takes a thread that compiling a configuration needs."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from nodeagent.admin.api import MetricsSource

Text = tuple[bytes, str]


class Scrapes:
    """One renders; of each format at most one waits, and who comes meanwhile shares the text of that one.

    So a crowd of scrapes has no queue, and each still gets values read after it had asked.
    """

    def __init__(self, source: MetricsSource) -> None:
        self._source = source
        self._thread = ThreadPoolExecutor(1, "metrics")
        self._newest: dict[str, Future[Text]] = {}

    async def text(self, accept: str) -> Text:
        kind = self._source.format_of(accept)
        newest = self._newest.get(kind)
        if newest is None or newest.running() or newest.done():
            newest = self._newest[kind] = self._thread.submit(self._source.render, accept)
        try:
            return await asyncio.shield(asyncio.wrap_future(newest))  # one that goes away must not end it for others
        finally:
            if newest.done() and self._newest.get(kind) is newest:
                del self._newest[kind]

    async def close(self) -> None:
        """The loop goes on meanwhile: a rendering may ask it something."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
