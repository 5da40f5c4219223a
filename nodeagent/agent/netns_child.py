"""The netlink child, kept for a moment: whoever lists connections mostly ends some of them next.

Its start is most of what a question costs (0.1 s, more on a busy node), and its end takes nearly as long: what was
ended is to be counted by then.  Pods and changes come in bursts, and an endpoint that is covered for the first time is
a question of its own: with a child for each, one such change per second took a tenth of a processor.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

from nodeagent.kernel.netns import INSPECT, KINDS, NamespaceInfo, NetlinkChild, NetlinkError

T = TypeVar("T")

LINGER_SECONDS = 10.0  # it takes 9 MB meanwhile


@dataclass(slots=True)
class _Kept:
    child: NetlinkChild
    questions: int = 0  # under way


class LingeringChild:
    """Asked one question of each kind at a time; ends when nobody asked for a while, and at the first failure."""

    def __init__(self, start: Callable[[], NetlinkChild] = NetlinkChild, linger: float = LINGER_SECONDS) -> None:
        self._start = start
        self._linger = linger
        self._turns = {kind: asyncio.Lock() for kind in KINDS}
        self._starting = asyncio.Lock()
        self._kept: _Kept | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._warming: asyncio.Future[None] | None = None
        self._endings: set[asyncio.Future[None]] = set()

    async def ask(self, kind: str, question: Callable[[NetlinkChild], T]) -> T:
        """`question` runs in a thread.  NetlinkError if it fails; the next one of either kind meets a new child."""
        async with self._turns[kind], self._held() as child:
            return await asyncio.to_thread(question, child)

    async def inspect(self, paths: list[str]) -> dict[str, NamespaceInfo]:
        """Cookies and addresses of namespaces.

        Asked once more if it fails: the child may have ended for a question of the other kind, and a pod waits.
        """
        with contextlib.suppress(NetlinkError):
            return await self.ask(INSPECT, lambda child: child.inspect(paths))
        return await self.ask(INSPECT, lambda child: child.inspect(paths))

    def expect(self) -> None:
        """Somebody will ask in a moment: start the child now."""
        if self._warming is None or self._warming.done():
            self._warming = asyncio.ensure_future(self._warm_up())

    async def _warm_up(self) -> None:
        with contextlib.suppress(OSError):  # who asks is told
            self._release(await self._take())

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncIterator[NetlinkChild]:
        kept = await self._take()
        try:
            yield kept.child
        except BaseException:  # who was cancelled leaves an answer that nobody reads
            self._give_up(kept)
            raise
        finally:
            self._release(kept)

    async def _take(self) -> _Kept:
        async with self._starting:
            if self._kept is not None and not self._kept.child.is_alive:
                self._give_up(self._kept)
            kept = self._kept
            if kept is None:
                kept = self._kept = _Kept(await asyncio.to_thread(self._start))
            if self._timer is not None:
                self._timer.cancel()
            kept.questions += 1
            return kept

    def _release(self, kept: _Kept) -> None:
        kept.questions -= 1
        if kept.questions:
            return
        if kept is self._kept:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._give_up, kept)
        else:
            self._end(kept)

    def _give_up(self, kept: _Kept) -> None:
        """Nobody asks it any more; who still waits for it ends it."""
        if self._kept is kept:
            self._kept = None
        if not kept.questions:
            self._end(kept)

    def _end(self, kept: _Kept) -> None:
        ending = asyncio.get_running_loop().run_in_executor(None, kept.child.close)
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """No child is left, unless somebody asks again."""
        if self._warming is not None:
            await self._warming
        if self._kept is not None:
            self._give_up(self._kept)
        await asyncio.gather(*self._endings)
