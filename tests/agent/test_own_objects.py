"""The agent's questions about its DaemonSet and its Node, asked of an API server that a test makes up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nodeagent.agent import own_objects
from nodeagent.agent.own_objects import OwnDaemonSet, OwnTaint
from nodeagent.core.own_daemonset import Sight
from nodeagent.core.own_taint import TAINT
from nodeagent.kube.api import ApiError

PATH = "/apis/apps/v1/namespaces/mesh/daemonsets"
HERE = {"metadata": {"name": "nodeagent"}}
GOING = {"metadata": {"name": "nodeagent", "deletionTimestamp": "2026-01-01T00:00:00Z"}}


class Server:
    """Answers `get` with what `answers` holds; a watch says what is put into `events`, until None."""

    def __init__(self) -> None:
        self.answer: bytes | Exception = listing(HERE)
        self.events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.watches: list[dict[str, str]] = []
        self.sent: list[tuple[str, str, Mapping[str, Any]]] = []
        self.answers_patch: Exception | None = None

    async def get(self, path: str, query: Mapping[str, str]) -> bytes:
        self.asked.append((path, dict(query)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        assert path == PATH
        assert seconds > 0
        self.watches.append(dict(query))
        yield self._lines()

    async def _lines(self) -> AsyncIterator[bytes]:
        while (line := await self.events.get()) is not None:
            yield line

    async def send(self, method: str, path: str, body: Mapping[str, Any], seconds: float) -> bytes:
        assert seconds > 0
        self.sent.append((method, path, body))
        if self.answers_patch is not None:
            error, self.answers_patch = self.answers_patch, None
            raise error
        return b"{}"


def listing(*items: Mapping[str, Any]) -> bytes:
    return json.dumps({"metadata": {"resourceVersion": "12"}, "items": items}).encode()


def event(kind: str, item: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen in time")


def following(scenario: Callable[[Server, OwnDaemonSet], Awaitable[None]]) -> None:
    async def run() -> None:
        server = Server()
        own = OwnDaemonSet(server, "mesh/nodeagent", again_seconds=0.001)
        task = asyncio.ensure_future(own.follow())
        try:
            await scenario(server, own)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_it_asks_for_its_own_daemonset_only() -> None:
    async def scenario(server: Server, own: OwnDaemonSet) -> None:
        await until(lambda: bool(server.watches))
        assert server.asked == [(PATH, {"fieldSelector": "metadata.name=nodeagent"})]
        [query] = server.watches
        assert (query["fieldSelector"], query["resourceVersion"]) == ("metadata.name=nodeagent", "12")
        assert own.followed is Sight.PRESENT

    following(scenario)


@pytest.mark.parametrize("last", [event("DELETED", HERE), event("MODIFIED", GOING)])
def test_an_end_that_the_watch_saw_counts_though_the_right_to_ask_was_deleted_first(last: bytes) -> None:
    async def scenario(server: Server, own: OwnDaemonSet) -> None:
        await until(lambda: bool(server.watches))
        server.answer = ApiError(403, "daemonsets is forbidden")
        server.events.put_nowait(last)
        await until(lambda: own.followed is Sight.GONE)
        server.events.put_nowait(None)  # and the watch ends: nothing better is known since
        await until(lambda: len(server.asked) > 3)
        assert await own.at_the_end() is Sight.GONE

    following(scenario)


def test_a_daemonset_that_was_made_again_is_no_end() -> None:
    async def scenario(server: Server, own: OwnDaemonSet) -> None:
        await until(lambda: bool(server.watches))
        server.events.put_nowait(event("DELETED", HERE))
        await until(lambda: own.followed is Sight.GONE)
        assert await own.at_the_end() is Sight.PRESENT  # what the server says now
        server.events.put_nowait(event("ADDED", HERE))
        await until(lambda: own.followed is Sight.PRESENT)

    following(scenario)


@pytest.mark.parametrize("bad", [b"not json", b"[]", b"{}", b'{"type": "MODIFIED"}', event("ERROR", {"code": 410})])
def test_an_answer_that_cannot_be_used_is_asked_for_again(bad: bytes) -> None:
    async def scenario(server: Server, own: OwnDaemonSet) -> None:
        await until(lambda: bool(server.watches))
        server.events.put_nowait(bad)
        await until(lambda: len(server.watches) == 2)
        assert own.followed is Sight.PRESENT

    following(scenario)


@pytest.mark.parametrize(
    ("answer", "sight"),
    [
        (listing(HERE), Sight.PRESENT),
        (listing(GOING), Sight.GONE),
        (listing(), Sight.GONE),
        (ApiError(403, "forbidden"), Sight.UNKNOWN),
        (b"<html>", Sight.UNKNOWN),
        (b"{}", Sight.UNKNOWN),
    ],
)
def test_the_last_question(answer: bytes | Exception, sight: Sight) -> None:
    server = Server()
    server.answer = answer
    assert asyncio.run(OwnDaemonSet(server, "mesh/nodeagent").at_the_end()) is sight


def test_the_last_question_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Server):
        async def get(self, path: str, query: Mapping[str, str]) -> bytes:
            await asyncio.Event().wait()
            return b""

    monkeypatch.setattr(own_objects, "LAST_QUESTION_SECONDS", 0.01)
    assert asyncio.run(OwnDaemonSet(Silent(), "mesh/nodeagent").at_the_end()) is Sight.UNKNOWN


def node(*taints: str) -> bytes:
    listed = [{"key": key, "effect": "NoExecute"} for key in taints]
    return json.dumps({"metadata": {"resourceVersion": "5"}, "spec": {"taints": listed}}).encode()


def taking_away(server: Server, *, ready: Callable[[], bool] = lambda: True) -> OwnTaint:
    own = OwnTaint(server, "node1", ready, again_seconds=0.001)
    asyncio.run(asyncio.wait_for(own.take_away(look_seconds=0.001), 5))
    return own


def test_the_taint_is_taken_from_our_node_once_we_are_ready() -> None:
    server = Server()
    server.answer = node("other", TAINT)
    states = iter([False, False, True])

    def ready() -> bool:
        assert not server.asked
        return next(states)

    taking_away(server, ready=ready)
    patch = {"metadata": {"resourceVersion": "5"}, "spec": {"taints": [{"key": "other", "effect": "NoExecute"}]}}
    assert server.sent == [("PATCH", "/api/v1/nodes/node1", patch)]


def test_a_node_without_the_taint_is_not_written() -> None:
    server = Server()
    server.answer = node("other")
    taking_away(server)
    assert server.sent == []


def test_a_write_that_fails_is_tried_again_on_the_node_as_it_is_then() -> None:
    server = Server()
    server.answer = node(TAINT)
    server.answers_patch = ApiError(409, "the object has been modified")
    own = taking_away(server)
    assert len(server.sent) == len(server.asked) == 2
    assert own.problem == ""
