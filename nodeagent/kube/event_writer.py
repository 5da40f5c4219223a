"""Writes Events, from a bounded queue: conditions say the same, so what does not fit is left out and counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from nodeagent.kube.api import ApiError, WritableApi
from nodeagent.kube.records import RecordError, decode
from nodeagent.status.occurrences import Emission, Occurrence, Occurrences, event_of, namespace_of, repeat_of

log = logging.getLogger(__name__)

QUEUED = 256
SECONDS = 5.0  # that an answer may take


def wall_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class EventWriter:
    """`tell` never waits; `run` until cancelled."""

    def __init__(self, api: WritableApi, instance: str) -> None:
        """`instance`: who says it; the node's name."""
        self._api = api
        self._instance = instance
        self._occurrences = Occurrences()
        self._queue: asyncio.Queue[Emission] = asyncio.Queue(QUEUED)
        self._told = ""
        self._unqueued = 0
        self.written = 0
        self.failed = 0

    @property
    def left_out(self) -> int:
        """Because of a bound."""
        return self._occurrences.left_out + self._unqueued

    def tell(self, occurrences: Iterable[Occurrence]) -> None:
        for one in occurrences:
            emission = self._occurrences.emission(one, time.monotonic(), wall_time())
            if emission is None:
                continue
            try:
                self._queue.put_nowait(emission)
            except asyncio.QueueFull:
                self._unqueued += 1

    async def run(self) -> None:
        while True:
            emission = await self._queue.get()
            try:
                await self._write(emission)
                self.written += 1
                self._told = ""
            except (ApiError, RecordError, TimeoutError) as error:
                self.failed += 1
                self._tell(str(error) or "no answer in time")

    async def _write(self, emission: Emission) -> None:
        """Two agents give the same Event the same name: the second adds to the count of the first."""
        event = event_of(emission, self._instance)
        if emission.count == 1:
            try:
                await self._api.send("POST", self._path(emission), event, SECONDS)
            except ApiError as error:
                if error.status != 409:
                    raise
            else:
                return
        try:
            await self._repeat(emission)
        except ApiError as error:
            if error.status != 404:
                raise
            await self._api.send("POST", self._path(emission), event, SECONDS)  # the API server keeps them for an hour

    async def _repeat(self, emission: Emission) -> None:
        path = f"{self._path(emission)}/{emission.occurrence.event_name}"
        async with asyncio.timeout(SECONDS):
            there = decode(await self._api.get(path, {}))
        await self._api.send("PATCH", path, repeat_of(emission, int(there.get("count") or 0)), SECONDS)

    def _path(self, emission: Emission) -> str:
        return f"/api/v1/namespaces/{namespace_of(emission.occurrence)}/events"

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            log.warning("an Event was not written (conditions say the same): %s", why)
