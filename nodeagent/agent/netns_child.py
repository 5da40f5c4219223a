"""The netlink child, kept for a moment: whoever lists connections mostly ends some of them next.

Its start is most of what a question costs (0.2 s, more on a busy node), and its end takes nearly as long: what was
ended is to be counted by then.  Pods and changes come in bursts, and an endpoint that is covered for the first time is
a question of its own: with a child for each, one such change per second took a tenth of a processor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from nodeagent.kernel.netns import NetlinkChild

T = TypeVar("T")

LINGER_SECONDS = 10.0  # it takes 13 MB meanwhile


class LingeringChild:
    """Asked one question at a time; ends when nobody asked for a while, and at the first failure."""

    def __init__(self, start: Callable[[], NetlinkChild] = NetlinkChild, linger: float = LINGER_SECONDS) -> None:
        self._start = start
        self._linger = linger
        self._turn = asyncio.Lock()
        self._child: NetlinkChild | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[None] | None = None

    async def ask(self, question: Callable[[NetlinkChild], T]) -> T:
        """`question` runs in a thread.  NetlinkError if it fails; the next one meets a new child."""
        async with self._turn:
            kept = self._take()
            child = kept if kept is not None else await asyncio.to_thread(self._start)
            try:
                answer = await asyncio.to_thread(question, child)
            except Exception:
                await asyncio.to_thread(child.close)
                raise
            self._child = child
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._let_go)
            return answer

    def _take(self) -> NetlinkChild | None:
        child, self._child = self._child, None
        if self._timer is not None:
            self._timer.cancel()
        return child

    def _let_go(self) -> None:
        child = self._take()
        if child is not None:
            self._ending = asyncio.get_running_loop().run_in_executor(None, child.close)

    async def close(self) -> None:
        """No child is left, unless somebody asks again."""
        self._let_go()
        if self._ending is not None:
            await self._ending
