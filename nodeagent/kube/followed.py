"""What the writer of statuses follows while it leads, and where each goes: into its Book, and into its Silence."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from nodeagent.core.api_group import API_VERSION
from nodeagent.kube.api import Api
from nodeagent.kube.follower import Follower, RelayedFollower, name_of
from nodeagent.kube.kinds import BY_NAME
from nodeagent.kube.node_reporter import COLLECTION
from nodeagent.kube.relay import Relay
from nodeagent.status.book import Book
from nodeagent.status.entries import SHAPES
from nodeagent.status.mesh_node import digests_of
from nodeagent.status.silence import Silence, agent_pod

AGENT = "nodeagent"  # the DaemonSet that agents are of

Value = dict[str, Any]


def of_objects(api: Api, relay: Relay, book: Book, woken: Callable[[], None]) -> list[RelayedFollower]:
    """`woken` is called after something came in because of which there may be something to do."""
    kinds = [(BY_NAME[name], _Objects(book, name, woken)) for name in SHAPES]
    return [RelayedFollower(api, relay, kind, sink, random.random) for kind, sink in kinds]


def of_nodes(api: Api, namespace: str, book: Book, silence: Silence, woken: Callable[[], None]) -> list[Follower]:
    """`namespace`: where the agents are."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    return [
        Follower(api, COLLECTION, API_VERSION, "MeshNode", _MeshNodes(book, silence, woken), random.random),
        Follower(api, pods, "v1", "Pod", _Agents(silence, woken), random.random),
    ]


class _Objects:
    """Of one kind."""

    def __init__(self, book: Book, kind: str, woken: Callable[[], None]) -> None:
        self._book, self._kind, self._woken = book, kind, woken

    def see(self, value: Value) -> None:
        if self._book.see(value):
            self._woken()

    def gone(self, value: Value) -> None:
        self._book.gone(self._kind, name_of(value))
        self._woken()

    def listed(self, names: set[str]) -> None:
        self._book.listed(self._kind, names)
        self._woken()


class _MeshNodes:
    def __init__(self, book: Book, silence: Silence, woken: Callable[[], None]) -> None:
        self._book, self._silence, self._woken = book, silence, woken

    def see(self, value: Value) -> None:
        name = name_of(value)
        self._book.report(name, digests_of(value.get("status")))
        self._silence.node(name, value, time.monotonic())
        self._woken()

    def gone(self, value: Value) -> None:
        name = name_of(value)
        self._book.report(name, None)
        self._silence.node(name, None, time.monotonic())
        self._woken()

    def listed(self, names: set[str]) -> None:
        self._book.reporting(names)
        self._silence.nodes(names)
        self._woken()


class _Agents:
    """Their pods."""

    def __init__(self, silence: Silence, woken: Callable[[], None]) -> None:
        self._silence, self._woken = silence, woken

    def see(self, value: Value) -> None:
        self._silence.pod(name_of(value), agent_pod(value, AGENT), time.monotonic())
        self._woken()

    def gone(self, value: Value) -> None:
        self._silence.pod(name_of(value), None, time.monotonic())
        self._woken()

    def listed(self, names: set[str]) -> None:
        self._silence.pods(names, time.monotonic())
        self._woken()
