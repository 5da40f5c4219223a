"""An API server that can be written to, in memory: versions as conditions, merge patches, the subresource status."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from nodeagent.kube.api import ApiError
from tests.kube.memory_api import MemoryApi
from tests.kube.model import Server, Value


class WritableApi(MemoryApi):
    """One client of `model`.  `cut`: the network between the two; `lost`: what is asked arrives, no answer does."""

    def __init__(self, model: Server) -> None:
        super().__init__(model, iter(()))
        self.cut = asyncio.Event()
        self.lost = False
        self.refuse: list[int] = []  # HTTP statuses of the next writes of the status of objects called r
        self.writes: list[tuple[str, str]] = []  # that were done

    async def get(self, path: str, query: Mapping[str, str]) -> bytes:
        self._reach()
        if path in self.model.collections or "limit" in query:
            return await super().get(path, query)
        collection, namespace, name, _ = self._place(path)
        value = self.model.collections[collection].objects.get((namespace, name))
        if value is None:
            raise ApiError(404, f"{name} not found")
        return json.dumps(value).encode()

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        self._reach()
        async with super().stream(path, query, seconds) as lines:
            yield self._until_cut(lines)

    async def send(self, method: str, path: str, body: Mapping[str, Any], seconds: float) -> bytes:
        await asyncio.sleep(0)
        self._reach()
        if self.refuse and path.endswith("/r/status"):
            raise ApiError(self.refuse.pop(0), "refused by the test")
        collection, namespace, name, status = self._place(path if method != "POST" else f"{path}/{_name(body)}")
        before = self.model.collections[collection].objects.get((namespace, name))
        after = _after(method, before, body, name)
        if before is not None and method != "POST":
            after = _subresource(before, after, status=status)
        self.writes.append((method, path))
        if after != before:
            self.model.put(collection, after)
        if self.lost:
            raise ApiError(0, "no answer in time")
        return json.dumps(self.model.collections[collection].objects[namespace, name]).encode()

    def _reach(self) -> None:
        if self.cut.is_set():
            raise ApiError(0, "no route to host")

    async def _until_cut(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            self._reach()
            yield line
            await asyncio.sleep(0.002)

    def _place(self, path: str) -> tuple[str, str, str, bool]:
        """(collection, namespace, name, of the subresource status)."""
        status = path.endswith("/status")
        parts = path.removesuffix("/status").split("/")
        namespace = ""
        if "namespaces" in parts:
            at = parts.index("namespaces")
            namespace = parts[at + 1]
            parts = parts[:at] + parts[at + 2 :]
        collection = "/".join(parts[:-1])
        if collection not in self.model.collections:
            raise ApiError(404, "the server could not find the requested resource")
        return collection, namespace, parts[-1], status


_uids = itertools.count(1)


def _after(method: str, before: Value | None, body: Mapping[str, Any], name: str) -> Value:
    if method == "POST":
        if before is not None:
            raise ApiError(409, f"{name} already exists")
        made = copy.deepcopy(dict(body))
        made["metadata"] |= {"uid": f"uid-{next(_uids)}", "generation": 1}
        return made
    if before is None:
        raise ApiError(404, f"{name} not found")
    wanted = body.get("metadata", {}).get("resourceVersion")
    if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
        raise ApiError(409, "the object has been modified; please apply your changes to the latest version")
    after = _merged(before, body) if method == "PATCH" else {**copy.deepcopy(before), **copy.deepcopy(dict(body))}
    assert isinstance(after, dict)
    after["metadata"] = {**before["metadata"], **after["metadata"]}
    return after


def _subresource(before: Value, after: Value, *, status: bool) -> Value:
    """A write of the status leaves the rest, and the other way round."""
    if status:
        return {**before, "status": after.get("status", {})}
    if "status" in before:
        return {**after, "status": before["status"]}
    return after


def _merged(before: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = copy.deepcopy(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _name(body: Mapping[str, Any]) -> str:
    return str(body["metadata"]["name"])
