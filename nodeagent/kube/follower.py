"""Follows one collection and hands on whole objects, with their status, as the writer of statuses needs them.

The source's own reflectors keep what is read of an object only, on every node; this runs on the one that writes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from nodeagent.kube.api import Api, ApiError, Failure, Reason, failure_of
from nodeagent.kube.reflection import List, Reflection, Wait, Watch

log = logging.getLogger(__name__)

PAGE = 250

Value = dict[str, Any]


class Sink(Protocol):
    """Who is told."""

    def see(self, value: Value) -> None:
        """There is this object, or it changed."""

    def gone(self, value: Value) -> None: ...

    def listed(self, names: set[str]) -> None:
        """All were seen: there are no others than these ("namespace/name")."""


class Follower:
    def __init__(
        self, api: Api, path: str, version: str, kind: str, sink: Sink, jitter: Callable[[], float]
    ) -> None:
        """`path` of the collection; `version` and `kind` of its objects, which a list does not always say."""
        self._api, self._path, self._sink = api, path, sink
        self._typed = {"apiVersion": version, "kind": kind}
        self._machine = Reflection(jitter)
        self._names: set[str] = set()
        self._told: Reason | None = None
        self.complete = False  # all that there is was seen at least once

    async def run(self) -> None:
        while True:
            match self._machine.step():
                case Wait() as step:
                    await asyncio.sleep(step.seconds)
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._failed(Failure(Reason.UNINTELLIGIBLE, f"an answer that cannot be read: {error!r}"))

    async def _list(self, step: List) -> None:
        query = {"limit": str(PAGE), **({"continue": step.token} if step.token else {})}
        page = json.loads(await self._api.get(self._path, query))
        if not step.token:
            self._names = set()
        for value in page.get("items") or []:
            self._names.add(name_of(value))
            self._sink.see({**self._typed, **value})
        metadata = page.get("metadata") or {}
        if self._machine.listed(str(metadata.get("resourceVersion") or ""), str(metadata.get("continue") or "")):
            self._told, self.complete = None, True
            self._sink.listed(self._names)
            self._names = set()

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
            async for line in lines:
                failure = self._take(json.loads(line))
                if failure is not None:
                    self._failed(failure)
                    return
        self._machine.ended(time.monotonic() - began)

    def _take(self, event: Mapping[str, Any]) -> Failure | None:
        value, kind = event["object"], event["type"]
        if kind == "ERROR":
            return failure_of(int(value.get("code") or 0), str(value.get("message") or ""))
        if kind == "DELETED":
            self._sink.gone(value)
        elif kind != "BOOKMARK":
            self._sink.see({**self._typed, **value})
        self._machine.advanced(str(value["metadata"]["resourceVersion"]))
        return None

    def _failed(self, failure: Failure) -> None:
        """Told once per kind of failure; a kind that is not installed has no status to write."""
        self._machine.failed(failure)
        if failure.reason is Reason.MISSING:
            self.complete = True
            self._sink.listed(set())
        elif failure.reason is not Reason.GONE and failure.reason is not self._told:
            log.warning("%s cannot be followed, so status is not written: %s", self._path, failure.message)
        self._told = failure.reason


def name_of(value: Mapping[str, Any]) -> str:
    """ "namespace/name", or the bare name."""
    metadata = value["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
