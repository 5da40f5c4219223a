"""Something that runs until it is cancelled, while a test looks at what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol


class Runs(Protocol):
    def run(self) -> Awaitable[Any]: ...


@asynccontextmanager
async def running(one: Runs) -> AsyncIterator[None]:
    """What ended it before is raised at the end."""
    task = asyncio.ensure_future(one.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
