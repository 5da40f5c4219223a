"""Writes statuses, on the one node that leads: keeps a Book for as long as it does, and does what the Book plans."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nodeagent.config.conditions import Conditions
from nodeagent.core.api_group import API_VERSION
from nodeagent.kube.api import ApiError, Reason, WritableApi
from nodeagent.kube.event_writer import EventWriter, wall_time
from nodeagent.kube.follower import Follower, name_of
from nodeagent.kube.kinds import BY_NAME
from nodeagent.kube.leadership import Leadership
from nodeagent.kube.node_reporter import COLLECTION
from nodeagent.kube.records import RecordError, decode
from nodeagent.status.book import Book, Key, Plan
from nodeagent.status.entries import SHAPES
from nodeagent.status.mesh_node import digests_of
from nodeagent.status.pace import Backoff, Bucket

log = logging.getLogger(__name__)

RATE, BURST = 50.0, 100  # writes/s
SETTLE = 0.05  # seconds: what changes together is written together
LOOKS = 20  # at objects, between two turns of the event loop: about 2 ms
LOOK = 5.0  # seconds at most between two looks whether there is something to write
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 60.0  # after a failure, and between two writes that say the same

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the agent made of the newest objects.

    `ready`: every Node, and whether it is Ready; `expected`: the nodes where an agent is.
    """

    conditions: Conditions = field(default_factory=Conditions)
    made_from: Mapping[str, str] = field(default_factory=dict)
    ready: Mapping[str, bool] | None = None
    expected: frozenset[str] = frozenset()


@dataclass(slots=True)
class Counts:
    written: int = 0
    conflicts: int = 0
    failed: int = 0


class StatusWriter:
    """`compiled` never waits; `run` until cancelled."""

    def __init__(self, api: WritableApi, leadership: Leadership, events: EventWriter) -> None:
        self._api, self._leadership, self._events = api, leadership, events
        self._compiled: Compiled | None = None
        self._term: _Term | None = None
        self.counts = Counts()

    def compiled(self, compiled: Compiled) -> None:
        self._compiled = compiled
        if self._term is not None:
            self._term.take(compiled)

    @property
    def waiting(self) -> int:
        """Objects whose status is to be written, or to be looked at."""
        return len(self._term.book.dirty()) if self._term else 0

    async def run(self) -> None:
        while True:
            await self._leadership.won()
            self._term = _Term(self._api, self._leadership, self._events, self.counts)
            if self._compiled is not None:
                self._term.take(self._compiled)
            try:
                await self._term.run()
            finally:
                self._term = None


class _Term:
    """From when we are elected until we are not."""

    def __init__(self, api: WritableApi, leadership: Leadership, events: EventWriter, counts: Counts) -> None:
        self._api, self._leadership, self._events, self._counts = api, leadership, events, counts
        self._wake = asyncio.Event()
        self._bucket = Bucket(RATE, BURST)
        self._holds: dict[Key, _Hold] = {}
        self._pause = 0.0  # for everything: the API server does not answer, or does not let us
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
        self._told = ""
        self.book = Book()

    def take(self, compiled: Compiled) -> None:
        self.book.compiled(compiled.conditions, compiled.made_from)
        self.book.nodes(compiled.ready, compiled.expected)
        self._wake.set()

    async def run(self) -> None:
        followers = [asyncio.create_task(one.run()) for one in self._followers()]
        try:
            while self._leadership.leads:
                for task in followers:
                    if task.done():
                        task.result()
                pause = await self._write_all()
                await self._sleep(pause)
        finally:
            for task in followers:
                task.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    def _followers(self) -> list[Follower]:
        made = [
            Follower(self._api, kind.path, kind.version, kind.name, _Objects(self, kind.name), random.random)
            for kind in (BY_NAME[name] for name in SHAPES)
        ]
        return [*made, Follower(self._api, COLLECTION, API_VERSION, "MeshNode", _Nodes(self), random.random)]

    def woken(self) -> None:
        self._wake.set()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
            await asyncio.sleep(SETTLE)
        self._wake.clear()

    async def _write_all(self) -> float:
        """Everything that can be written now; returns how long to wait if nothing happens."""
        now = time.monotonic()
        self.book.look_again(now)
        for number, key in enumerate(self.book.dirty(), 1):
            if number % LOOKS == 0:
                await asyncio.sleep(0)
            if self._is_held(key) or time.monotonic() < self._pause:
                continue
            plan = self.book.plan(key, time.monotonic(), wall_time())
            if plan is None:
                continue
            if self._repeats(key, plan):
                continue
            await asyncio.sleep(self._bucket.wait(time.monotonic()))
            self._bucket.take(time.monotonic())
            if not self._leadership.leads:
                return 0.0
            await self._write(key, plan)
        self._forget_holds()
        return self._next(now)

    def _next(self, now: float) -> float:
        due = [hold.until - now for hold in self._holds.values() if hold.until > now]
        due += [self._pause - now] if self._pause > now else []
        patience = self.book.acknowledgements.due(now)
        return max(0.01, min([LOOK, *due, *([] if patience is None else [patience])]))

    async def _write(self, key: Key, plan: Plan) -> None:
        kind, subject = BY_NAME[plan.subject.kind], plan.subject
        group, _, plural = kind.path.rpartition("/")
        path = f"{group}/namespaces/{subject.namespace}/{plural}/{subject.name}/status"
        try:
            answer = decode(await self._api.send("PATCH", path, plan.patch, self._leadership.request_seconds))
        except (ApiError, RecordError, TimeoutError) as error:
            self._failed(key, error)
            return
        self._counts.written += 1
        self._backoff, self._told = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random), ""
        self.book.see({"apiVersion": kind.version, "kind": kind.name, **answer})
        self._events.tell(plan.occurrences)
        self._hold(key).wrote(plan)

    def _failed(self, key: Key, error: Exception) -> None:
        """A conflict is settled by the event that it announces; of an object that is gone we hear as well."""
        status = error.status if isinstance(error, ApiError) else 0
        if status in (404, 409):
            self._counts.conflicts += 1
            self._hold(key).failed()
            return
        self._counts.failed += 1
        if isinstance(error, ApiError) and error.failure.reason is Reason.UNINTELLIGIBLE:  # of this object
            self._hold(key).failed()
        else:
            after = error.failure.retry_after if isinstance(error, ApiError) else 0.0
            self._pause = time.monotonic() + self._backoff.failed(after)
        text = str(error) or "no answer in time"
        if text != self._told:
            self._told = text
            log.warning("the status of %s %s was not written, it is tried again: %s", *key, text)

    # ---- what has to wait ----

    def _hold(self, key: Key) -> _Hold:
        return self._holds.setdefault(key, _Hold())

    def _is_held(self, key: Key) -> bool:
        hold = self._holds.get(key)
        return hold is not None and time.monotonic() < hold.until

    def _repeats(self, key: Key, plan: Plan) -> bool:
        """True = we wrote just that a moment ago, and somebody changed it: it takes two to fight."""
        hold = self._holds.get(key)
        return hold is not None and hold.repeats(plan)

    def _forget_holds(self) -> None:
        """Those of what had its last write long ago."""
        old = time.monotonic() - LONGEST_PAUSE
        for key in [key for key, hold in self._holds.items() if max(hold.until, hold.written) < old]:
            del self._holds[key]


class _Hold:
    """Why one object waits: a failure, or that we say the same again and again."""

    def __init__(self) -> None:
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
        self._last: tuple[object, ...] = ()
        self._waited = False
        self.until = 0.0
        self.written = 0.0

    def failed(self) -> None:
        self.until = time.monotonic() + self._backoff.failed()

    def wrote(self, plan: Plan) -> None:
        content = _content(plan)
        if content != self._last:
            self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
        self._last, self.written = content, time.monotonic()

    def repeats(self, plan: Plan) -> bool:
        if _content(plan) != self._last or self._waited:
            self._waited = False
            return False
        self._waited = True
        self.failed()
        return True


def _content(plan: Plan) -> tuple[object, ...]:
    return (plan.subject.generation, plan.content)


class _Objects:
    """Of one kind, into the book."""

    def __init__(self, term: _Term, kind: str) -> None:
        self._term, self._kind = term, kind

    def see(self, value: Value) -> None:
        self._term.book.see(value)
        self._term.woken()

    def gone(self, value: Value) -> None:
        self._term.book.gone(self._kind, name_of(value))
        self._term.woken()

    def listed(self, names: set[str]) -> None:
        self._term.book.listed(self._kind, names)
        self._term.woken()


class _Nodes:
    """MeshNodes, into the book."""

    def __init__(self, term: _Term) -> None:
        self._term = term

    def see(self, value: Value) -> None:
        self._term.book.report(name_of(value), digests_of(value.get("status")))
        self._term.woken()

    def gone(self, value: Value) -> None:
        self._term.book.report(name_of(value), None)
        self._term.woken()

    def listed(self, names: set[str]) -> None:
        self._term.book.reporting(names)
        self._term.woken()
