"""The model asked without a socket: implements nodeagent.kube.api.Api, with a plan of what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nodeagent.kube.api import ApiError
from tests.kube.model import Server, StatusError, bookmark, error_event


@dataclass(frozen=True)
class Fault:
    """Of one request: an answer with `status` (0 = none), or of a watch, after `after` lines, an `end`.

    `end`: drop | close | error <code> | garbage
    """

    status: int = 200
    after: int = 0
    end: str = ""


HEALTHY = Fault()


class MemoryApi:
    server = "https://model"

    def __init__(self, model: Server, plan: Iterator[Fault]) -> None:
        self.model = model
        self._plan = plan
        self.asked: list[str] = []

    async def get(self, path: str, query: Mapping[str, str]) -> bytes:
        self._next(f"list {path}")
        try:
            return self.model.page(path, int(query["limit"]), query.get("continue", ""))
        except StatusError as error:
            raise ApiError(error.code, str(error)) from error

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        fault = self._next(f"watch {path}")
        yield self._lines(path, int(query["resourceVersion"]), fault)

    async def close(self) -> None:
        return

    def _next(self, what: str) -> Fault:
        self.asked.append(what)
        fault = next(self._plan, HEALTHY)
        if fault.status != 200:
            raise ApiError(fault.status, f"status {fault.status}")
        return fault

    async def _lines(self, path: str, version: int, fault: Fault) -> AsyncIterator[bytes]:
        sent = 0
        while True:
            try:
                found = list(self.model.events(path, version))
            except StatusError as error:
                yield error_event(error.code, str(error))
                return
            found = found or [(self.model.version, bookmark(self.model.version))]
            for at, text in found:
                if fault.end and sent >= fault.after:
                    async for last in _end(fault.end):
                        yield last
                    return
                sent, version = sent + 1, at
                yield text
            await asyncio.sleep(0)


async def _end(how: str) -> AsyncIterator[bytes]:
    if how == "drop":
        raise ApiError(0, "connection reset by peer")
    if how.startswith("error"):
        yield error_event(int(how.split()[1]), "an error of the watch")
    if how == "garbage":
        yield b'{"type": "MODIFIED", "object": {"metadata'
