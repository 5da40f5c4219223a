"""The real admin server in a thread, over a small configuration: what the CLI talks to when no kernel is at hand."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from nodeagent.admin.api import Json
from nodeagent.admin.server import AdminServer
from nodeagent.agent import explain, observe_stream, views
from nodeagent.agent.admin_view import plain
from nodeagent.agent.observers import Observers
from nodeagent.agent.settings import admin_socket
from nodeagent.regex import compile_regex
from tests.agent.samples import CONDITIONS, ENROLLED, OBJECTS, snapshot

RECORD = {
    "time": "12:00:00.000",
    "source": "shop/web-1",
    "destination": "shop/cart:80",
    "method": "GET",
    "path": "/items",
    "status": 200,
    "duration_us": 1500,
    "verdict": "allowed",
    "route": "shop/cart",
    "rule": "canary",
}
CONNECTION = {
    "namespace": "shop",
    "name": "web-1",
    "path": "proxied",
    "local": "198.18.0.2:40000",
    "remote": "198.19.0.1:80",
    "destination": "shop/cart:80",
    "worker": 0,
}
STATUS: Json = {
    "agent": {"alive": True, "ready": True, "problem": "", "pid": 7, "version": "0.1.0", "uptime_s": 3.0},
    "instance": {"node": "node1", "cgroup": "/cg", "bpffs": "/b", "run_dir": "/r", "attached": True, "bypass": False},
    "config": {"source": "/m", "generation": 3, "in_force": 3, "errors": [], "warnings": [], "complaints": []},
    "workers": [
        {"index": 0, "pid": 8, "state": "ready", "generation": 3, "listeners": 2, "heartbeat_age_s": 0.1, "stats": {}}
    ],
    "worker_deaths": 0,
    "broker": {"pid": 9, "alive": True, "errors": 0, "last_error": ""},
    "pods": {"enrolled": ["shop/web-1"], "failed": {}},
    "notes": ["UDP passes untouched"],
}


class FakeApi:
    """Implements admin.api.AdminApi; what needs a kernel or workers is a sample that a test may change."""

    def __init__(self) -> None:
        self.problem = ""
        self.answer: Json = STATUS
        self.observers = Observers(lambda _on: None)
        self.records: list[Json] = [RECORD]
        self.confirmed = threading.Event()  # clear it, and no worker confirms that it observes
        self.confirmed.set()

    def live(self) -> str:
        return ""

    def ready(self) -> str:
        return self.problem

    def status(self) -> Json:
        return {**self.answer, "agent": {**STATUS["agent"], "ready": not self.problem, "problem": self.problem}}

    def objects(self, kind: str, namespace: str, name: str) -> list[Json]:
        world = views.World(snapshot(), objects=OBJECTS, conditions=CONDITIONS)
        return views.rows(world, kind, namespace, name)

    def snapshot(self) -> Json:
        return {"generation": 1, "workloads": [plain(pod) for pod in snapshot().workloads.values()]}

    async def connections(self, namespace: str, name: str) -> list[Json]:
        wanted = namespace in ("", CONNECTION["namespace"]) and name in ("", CONNECTION["name"])
        return [CONNECTION] if wanted else []

    def explain(self, query: Mapping[str, Any]) -> Json:
        return explain.explain(snapshot(), ENROLLED, explain.parse_question(query), compile_regex)

    def observe(self, query: Mapping[str, str]) -> AbstractAsyncContextManager[AsyncIterator[Json]]:
        self.observers.history.clear()
        self.observers.history.extend(self.records)
        return observe_stream.stream(self.observers, query, lambda _source: "Nobody is enrolled.", self._unconfirmed)

    async def _unconfirmed(self) -> list[int]:
        await asyncio.to_thread(self.confirmed.wait, 5)
        return []

    async def handover(self) -> Json:
        raise NotImplementedError("no command of these tests asks for it")  # an error, not an answer


class NoMetrics:
    def format_of(self, accept: str) -> str:
        raise NotImplementedError(accept)

    def render(self, accept: str) -> tuple[bytes, str]:
        raise NotImplementedError(accept)


class FakeAgent:
    """`run_dir` is what the commands take."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.api = FakeApi()
        self.loop = asyncio.new_event_loop()
        self._server = AdminServer(self.api, NoMetrics())

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.start_admin(admin_socket(self.run_dir)), self.loop).result(5)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self.loop).result(5)

    def publish(self, record: Json) -> None:
        self.loop.call_soon_threadsafe(self.api.observers.publish, record)


@contextlib.contextmanager
def running(run_dir: Path) -> Iterator[FakeAgent]:
    agent = FakeAgent(run_dir)
    thread = threading.Thread(target=agent.loop.run_forever)
    thread.start()
    try:
        agent.start()
        yield agent
        agent.stop()
    finally:
        agent.loop.call_soon_threadsafe(agent.loop.stop)
        thread.join(5)
        agent.loop.close()
