"""Follows one collection and hands on whole objects, with their status, as the writer of statuses needs them.

The source's own reflectors keep what is read of an object only, on every node; this runs on the one that writes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nodeagent.kube.api import Api, Failure, Reason, failure_of
from nodeagent.kube.list_watch import ListWatch

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
        page = json.loads(await self._api.get(self._path, query))
        if first:
            self._names = set()
        for value in page.get("items") or []:
            self._names.add(name_of(value))
            self._sink.see({**self._typed, **value})
        metadata = page.get("metadata") or {}
        return str(metadata.get("resourceVersion") or ""), str(metadata.get("continue") or "")

    def _listed(self) -> None:
        self._told, self.complete = None, True
        self._sink.listed(self._names)
        self._names = set()

    def _line(self, line: bytes) -> str | Failure:
        event = json.loads(line)
        value, kind = event["object"], event["type"]
        if kind == "ERROR":
            return failure_of(int(value.get("code") or 0), str(value.get("message") or ""))
        if kind == "DELETED":
            self._sink.gone(value)
        elif kind != "BOOKMARK":
            self._sink.see({**self._typed, **value})
        return str(value["metadata"]["resourceVersion"])

    def _failed(self, failure: Failure) -> None:
        """Told once per kind of failure; a kind that is not installed has no status to write."""
        super()._failed(failure)
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
