"""Follows one collection and hands on whole objects, with their status, as the writer of statuses needs them.

The source's own reflectors keep what is read of an object only, on every node; this runs on the one that writes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nodeagent.kube.api import Api, Failure, Reason, failure_of
from nodeagent.kube.kinds import Kind
from nodeagent.kube.list_watch import ListWatch
from nodeagent.kube.records import parse
from nodeagent.kube.reflection import Watch
from nodeagent.kube.relay import Relay

log = logging.getLogger(__name__)

Value = dict[str, Any]


class Sink(Protocol):
    """Who is told."""

    def see(self, value: Value) -> None:
        """There is this object, or it changed."""

    def gone(self, value: Value) -> None: ...

    def listed(self, names: set[str]) -> None:
        """All were seen: there are no others than these ("namespace/name")."""


class Follower(ListWatch):
    def __init__(
        self, api: Api, path: str, version: str, kind: str, sink: Sink, jitter: Callable[[], float]
    ) -> None:
        """`path` of the collection; `version` and `kind` of its objects, which a list does not always say."""
        super().__init__(api, path, jitter)
        self._sink = sink
        self._typed = {"apiVersion": version, "kind": kind}
        self._names: set[str] = set()
        self._told: Reason | None = None
        self.complete = False  # all that there is was seen at least once

    async def _page(self, query: Mapping[str, str], *, first: bool) -> tuple[str, str]:
        if first:
            self._begin()
        page = parse(await self._api.get(self._path, query))
        for value in page.get("items") or []:
            self._take(value)
        metadata = page.get("metadata") or {}
        return str(metadata.get("resourceVersion") or ""), str(metadata.get("continue") or "")

    def _begin(self) -> None:
        self._names = set()

    def _take(self, value: Value) -> None:
        """Of a list."""
        self._names.add(name_of(value))
        self._sink.see({**self._typed, **value})

    def _listed(self) -> None:
        self._told, self.complete = None, True
        self._sink.listed(self._names)
        self._names = set()

    def _line(self, line: bytes) -> str | Failure:
        event = parse(line)
        value, kind = event["object"], event["type"]
        if kind == "ERROR":
            return failure_of(int(value.get("code") or 0), str(value.get("message") or ""))
        if kind == "DELETED":
            self._went(value)
        elif kind != "BOOKMARK":
            self._came(value)
        return str(value["metadata"]["resourceVersion"])

    def _came(self, value: Value) -> None:
        self._sink.see({**self._typed, **value})

    def _went(self, value: Value) -> None:
        self._sink.gone(value)

    def _failed(self, failure: Failure) -> None:
        """Told once per kind of failure; a kind that is not installed has no status to write."""
        super()._failed(failure)
        if failure.reason is Reason.MISSING:
            self.complete = True
            self._sink.listed(set())
        elif failure.reason is not Reason.GONE and failure.reason is not self._told:
            log.warning("%s cannot be followed, so status is not written: %s", self._path, failure.message)
        self._told = failure.reason


class RelayedFollower(Follower):
    """Lists by itself; events come from the watch that a Reflector keeps of the same collection.

    They come while a list is read, too: an object of a page may be gone by then, and one that came be in no page.
    """

    def __init__(self, api: Api, relay: Relay, kind: Kind, sink: Sink, jitter: Callable[[], float]) -> None:
        super().__init__(api, kind.path, kind.version, kind.name, sink, jitter)
        self._relay = relay
        self._listing = False
        self._gone: set[str] = set()  # since the list began
        self._is_behind = asyncio.Event()

    async def run(self) -> None:
        with self._relay.tapped(self._path, self):
            await super().run()

    def event(self, line: bytes) -> None:
        try:
            self._line(line)
        except self.UNREADABLE:
            self.missed()

    def missed(self) -> None:
        self._is_behind.set()

    async def _watch(self, step: Watch) -> None:  # noqa: ARG002  (the Reflector's is at a version of its own)
        self._machine.advanced("")
        await self._is_behind.wait()
        self._failed(Failure(Reason.GONE, "events may have been missed"))

    def _begin(self) -> None:
        super()._begin()
        self._is_behind.clear()
        self._listing, self._gone = True, set()

    def _take(self, value: Value) -> None:
        if name_of(value) not in self._gone:
            super()._take(value)

    def _listed(self) -> None:
        self._listing, self._gone = False, set()
        super()._listed()

    def _came(self, value: Value) -> None:
        if self._listing:
            self._names.add(name_of(value))
        super()._came(value)

    def _went(self, value: Value) -> None:
        if self._listing:
            self._gone.add(name_of(value))
        super()._went(value)


def name_of(value: Mapping[str, Any]) -> str:
    """ "namespace/name", or the bare name."""
    metadata = value["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
