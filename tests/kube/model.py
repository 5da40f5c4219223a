"""An API server's list and watch, in memory: versions, history, pages, compaction.  What can go wrong is asked for.

`Server` decides; `tests.kube.memory_api` asks it without a socket, `tests.kube.http_server` serves it over HTTP.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Value = dict[str, Any]
Key = tuple[str, str]  # namespace, name


class StatusError(Exception):
    """An answer other than 200."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = json.dumps({"kind": "Status", "apiVersion": "v1", "code": code, "message": message}).encode()


@dataclass
class Collection:
    """Objects of one path.  `history`: (version, event type, object) since `oldest`."""

    objects: dict[Key, Value] = field(default_factory=dict)
    history: list[tuple[int, str, Value]] = field(default_factory=list)
    oldest: int = 0


class Server:
    def __init__(self, *paths: str) -> None:
        self.version = 100
        self.collections = {path: Collection() for path in paths}
        self._snapshots: dict[str, tuple[int, list[Value]]] = {}  # by continue token

    def put(self, path: str, value: Value) -> None:
        collection, key = self.collections[path], _key(value)
        known = key in collection.objects
        stored = self._stamped(value)
        collection.objects[key] = stored
        collection.history.append((self.version, "MODIFIED" if known else "ADDED", stored))

    def delete(self, path: str, namespace: str, name: str) -> bool:
        collection = self.collections[path]
        found = collection.objects.pop((namespace, name), None)
        if found is None:
            return False
        collection.history.append((self.version + 1, "DELETED", self._stamped(found)))
        return True

    def compact(self) -> None:
        """History and lists that are under way are forgotten."""
        self.version += 1
        self._snapshots.clear()
        for collection in self.collections.values():
            collection.history.clear()
            collection.oldest = self.version

    def page(self, path: str, limit: int, token: str) -> bytes:
        collection = self._collection(path)
        if token:
            if token not in self._snapshots:
                raise StatusError(410, "The provided continue parameter is too old")
            version, rest = self._snapshots[token]
        else:
            version, rest = self.version, [collection.objects[key] for key in sorted(collection.objects)]
        metadata: Value = {"resourceVersion": str(version)}
        if len(rest) > limit:
            metadata["continue"] = following = f"{version}-{len(rest) - limit}-{len(self._snapshots)}"
            self._snapshots[following] = version, rest[limit:]
        return json.dumps({"kind": "List", "metadata": metadata, "items": rest[:limit]}).encode()

    def events(self, path: str, version: int) -> Iterator[tuple[int, bytes]]:
        """(version, line) of everything since; raises StatusError 410 when that is not known any more."""
        collection = self._collection(path)
        if version < collection.oldest:
            raise StatusError(410, f"too old resource version: {version} ({collection.oldest})")
        for at, kind, value in list(collection.history):
            if at > version:
                yield at, line(kind, value)

    def _collection(self, path: str) -> Collection:
        if path not in self.collections:
            raise StatusError(404, "the server could not find the requested resource")
        return self.collections[path]

    def _stamped(self, value: Value) -> Value:
        self.version += 1
        stored = copy.deepcopy(value)
        stored["metadata"]["resourceVersion"] = str(self.version)
        return stored


def line(kind: str, value: Value) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode()


def bookmark(version: int) -> bytes:
    return line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def error_event(code: int, message: str) -> bytes:
    return line("ERROR", {"kind": "Status", "code": code, "message": message})


def _key(value: Value) -> Key:
    metadata = value["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
