"""Ask the agent's loop from another thread: what lives on the loop, a Map object above all, is touched there only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# The loop answers in milliseconds; one that does not is not worth a thread that waits for ever.
ANSWER_SECONDS = 5.0


def on_loop(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> Callable[[], T]:
    """`function`, to be called from a thread that is not the loop's: runs on the loop, and its result comes back.

    TimeoutError when the loop does not run.
    """

    async def run() -> T:
        return function()

    def call() -> T:
        return asyncio.run_coroutine_threadsafe(run(), loop).result(ANSWER_SECONDS)

    return call
