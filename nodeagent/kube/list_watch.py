"""Asks for one collection: does what its Reflection says, and hands on what comes of it."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping

from nodeagent.kube.api import Api, ApiError, Failure, Reason
from nodeagent.kube.records import RecordError
from nodeagent.kube.reflection import List, Reflection, Wait, Watch

PAGE = 250  # objects of one answer: 2 MB of pods


class ListWatch(ABC):
    """`run` until cancelled.  Who takes in an answer raises one of `UNREADABLE` when it is not what was asked for."""

    UNREADABLE: tuple[type[Exception], ...] = (ValueError, KeyError, TypeError, AttributeError)

    def __init__(self, api: Api, path: str, jitter: Callable[[], float]) -> None:
        """`path` of the collection."""
        self._api, self._path = api, path
        self._machine = Reflection(jitter)

    @abstractmethod
    async def _page(self, query: Mapping[str, str], *, first: bool) -> tuple[str, str]:
        """Ask for it and take it in: its version, and the token of the next page.  `first`: a new list begins."""

    @abstractmethod
    def _listed(self) -> None:
        """The last page was taken in."""

    @abstractmethod
    def _line(self, line: bytes) -> str | Failure:
        """Take in an event: the version that it leads to, or why the watch is over."""

    def _began(self) -> None:  # noqa: B027  (not everybody needs to know)
        """A watch did: nothing was missed."""

    def _failed(self, failure: Failure) -> None:
        self._machine.failed(failure)

    async def _wait(self, step: Wait) -> None:
        await asyncio.sleep(step.seconds)

    async def run(self) -> None:
        while True:
            match self._machine.step():
                case Wait() as step:
                    await self._wait(step)
                    self._machine.waited()
                case List() as step:
                    await self._guarded(self._list(step))
                case Watch() as step:
                    await self._guarded(self._watch(step))

    async def _guarded(self, asking: Awaitable[None]) -> None:
        try:
            await asking
        except ApiError as error:
            self._failed(error.failure)
        except self.UNREADABLE as error:
            why = str(error) if isinstance(error, RecordError) else f"an answer that cannot be read: {error!r}"
            self._failed(Failure(Reason.UNINTELLIGIBLE, f"{self._api.server}: {why}"))

    async def _list(self, step: List) -> None:
        query = {"limit": str(PAGE), **({"continue": step.token} if step.token else {})}
        version, token = await self._page(query, first=not step.token)
        if self._machine.listed(version, token):
            self._listed()

    async def _watch(self, step: Watch) -> None:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": step.version,
            "timeoutSeconds": str(step.seconds),
        }
        began = time.monotonic()
        async with self._api.stream(self._path, query, step.seconds) as lines:
            self._machine.watching()
            self._began()
            async for line in lines:
                taken = self._line(line)
                if isinstance(taken, Failure):
                    self._failed(taken)
                    return
                self._machine.advanced(taken)
        self._machine.ended(time.monotonic() - began)
