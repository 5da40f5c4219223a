"""Writes statuses, on the one node that leads: keeps a Book for as long as it does, and does what the Book plans."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from nodeagent.config.conditions import Conditions
from nodeagent.config.objects import ObjectSet
from nodeagent.config.resources import NodeObject
from nodeagent.kube import followed
from nodeagent.kube.api import ApiError, Reason, WritableApi
from nodeagent.kube.event_writer import EventWriter, wall_time
from nodeagent.kube.kinds import BY_NAME
from nodeagent.kube.leadership import Leadership
from nodeagent.kube.node_reporter import COLLECTION
from nodeagent.kube.records import RecordError, decode
from nodeagent.kube.relay import Relay
from nodeagent.status.book import Book, Key, Plan
from nodeagent.status.holds import Holds
from nodeagent.status.pace import Backoff, Bucket
from nodeagent.status.silence import Silence

log = logging.getLogger(__name__)

RATE, BURST = 50.0, 100  # writes/s
SETTLE = 0.05  # seconds: what changes together is written together
LOOKS = 20  # at objects, between two turns of the event loop: about 2 ms
LOOK = 5.0  # seconds at most between two looks whether there is something to write
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 60.0  # after a failure, and between two writes that say the same

FAILURES = (ApiError, RecordError, TimeoutError)


@dataclass(slots=True)
class Counts:
    written: int = 0
    conflicts: int = 0
    failed: int = 0


class StatusWriter:
    """`compiled` and `enforced_here` never wait; `run` until cancelled."""

    def __init__(
        self, api: WritableApi, relay: Relay, leadership: Leadership, events: EventWriter, namespace: str
    ) -> None:
        """`relay`: of the watches of what has a status; `namespace`: where the agents are."""
        self._api, self._relay, self._leadership, self._events = api, relay, leadership, events
        self._namespace = namespace
        self._compiled: tuple[ObjectSet, Conditions] | None = None
        self._enforced: tuple[str, Mapping[str, str]] | None = None
        self._term: _Term | None = None
        self.counts = Counts()

    def compiled(self, objects: ObjectSet, conditions: Conditions) -> None:
        """The newest objects, and what is to be said about them."""
        self._compiled = objects, conditions
        if self._term is not None:
            self._term.take(objects, conditions)

    def enforced_here(self, node: str, digests: Mapping[str, str]) -> None:
        """What our own node has in force."""
        self._enforced = node, digests
        if self._term is not None:
            self._term.enforced_here(node, digests)

    @property
    def waiting(self) -> int:
        """Objects whose status is to be written, or to be looked at."""
        return self._term.book.waiting if self._term else 0

    async def run(self) -> None:
        while True:
            await self._leadership.won()
            self._term = _Term(self._api, self._relay, self._leadership, self._events, self.counts, self._namespace)
            if self._compiled is not None:
                self._term.take(*self._compiled)
            if self._enforced is not None:
                self._term.enforced_here(*self._enforced)
            try:
                await self._term.run()
            finally:
                self._term = None


class _Term:
    """From when we are elected until we are not."""

    def __init__(
        self,
        api: WritableApi,
        relay: Relay,
        leadership: Leadership,
        events: EventWriter,
        counts: Counts,
        namespace: str,
    ) -> None:
        self._api, self._relay, self._leadership, self._events = api, relay, leadership, events
        self._counts, self._namespace = counts, namespace
        self._silence = Silence()
        self._nodes: Mapping[str, NodeObject] = {}
        self._ready: Mapping[str, bool] | None = None
        self._wake = asyncio.Event()
        self._bucket = Bucket(RATE, BURST)
        self._holds = Holds(FIRST_PAUSE, LONGEST_PAUSE, random.random)
        self._pause = 0.0  # for everything: the API server does not answer, or does not let us
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
        self._told = ""
        self.book = Book()

    def take(self, objects: ObjectSet, conditions: Conditions) -> None:
        self.book.compiled(conditions, {kind: one.digest for kind, one in objects.contents.items()})
        others = objects.nodes is not self._nodes
        if others:
            self._nodes, self._ready = objects.nodes, {name: one.ready for name, one in objects.nodes.items()}
        if others or self.book.dirty():
            self._wake.set()

    def enforced_here(self, node: str, digests: Mapping[str, str]) -> None:
        if self.book.enforced_here(node, digests):
            self._wake.set()

    async def run(self) -> None:
        objects = followed.of_objects(self._api, self._relay, self.book, self._wake.set)
        nodes = followed.of_nodes(self._api, self._namespace, self.book, self._silence, self._wake.set)
        following = [asyncio.create_task(one.run()) for one in (*objects, *nodes)]
        try:
            while self._leadership.leads:
                for task in following:
                    if task.done():
                        task.result()
                if all(one.complete for one in nodes):  # else one that has to confirm may not be known yet
                    await self._write_all()
                    await self._mark_silent()
                await self._sleep(self._next(time.monotonic()))
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
            await asyncio.sleep(SETTLE)
        self._wake.clear()

    async def _write_all(self) -> None:
        """Every status of an object that can be written now."""
        self.book.nodes(self._ready, self._silence.expected)
        self.book.look_again(time.monotonic())
        for number, key in enumerate(self.book.dirty(), 1):
            if number % LOOKS == 0:
                await asyncio.sleep(0)
            if self._has_to_wait(key):
                continue
            plan = self.book.plan(key, time.monotonic(), wall_time())
            if plan is None:
                continue
            if self._holds.repeats(key, _content(plan), time.monotonic()):
                self.book.tried(plan, None)
            elif await self._may_write():
                await self._write(key, plan)
            else:  # another may lead, or we again in a moment
                self.book.tried(plan, None)
                return
        self._holds.forget(time.monotonic())

    async def _mark_silent(self) -> None:
        """MeshNodes of agents that cannot say any more how they are."""
        for node in self._silence.due(time.monotonic()):
            if self._has_to_wait(("MeshNode", node)):
                continue
            if not await self._may_write():
                return
            if node in self._silence.due(time.monotonic()):  # it may have spoken meanwhile, or be gone
                await self._mark(node)

    async def _mark(self, node: str) -> None:
        """What fails is tried again later, and keeps nothing else waiting: an older admission policy forbids it."""
        patch, path = self._silence.patch(node, wall_time()), f"{COLLECTION}/{node}/status"
        try:
            answer = decode(await self._api.send("PATCH", path, patch, self._leadership.request_seconds))
        except FAILURES as error:
            self._counts.failed += 1
            self._holds.failed(("MeshNode", node), time.monotonic())
            why = str(error) or "no answer in time"
            log.info("MeshNode %s does not say yet that its agent is silent: %s", node, why)
        else:
            self._counts.written += 1
            self._silence.node(node, answer, time.monotonic())
            log.warning("the agent of node %s does not answer: its MeshNode says so", node)

    async def _may_write(self) -> bool:
        """Not too fast, and not once another leads."""
        if wait := self._bucket.wait(time.monotonic()):
            await asyncio.sleep(wait)
        self._bucket.take(time.monotonic())
        return self._leadership.leads

    def _next(self, now: float) -> float:
        """Seconds to wait if nothing happens."""
        pause = self._pause - now if self._pause > now else None
        due = self._holds.next(now), pause, self.book.due(now), self._silence.next(now)
        return max(0.01, min([LOOK, *(one for one in due if one is not None)]))

    async def _write(self, key: Key, plan: Plan) -> None:
        kind, subject = BY_NAME[plan.subject.kind], plan.subject
        group, _, plural = kind.path.rpartition("/")
        path = f"{group}/namespaces/{subject.namespace}/{plural}/{subject.name}/status"
        try:
            answer = decode(await self._api.send("PATCH", path, plan.patch, self._leadership.request_seconds))
        except FAILURES as error:
            self.book.tried(plan, None)
            self._failed(key, error)
            return
        self._counts.written += 1
        self._backoff, self._told = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random), ""
        if self.book.tried(plan, {"apiVersion": kind.version, "kind": kind.name, **answer}):
            self._wake.set()
        self._events.tell(plan.occurrences)
        self._holds.wrote(key, _content(plan), time.monotonic())

    def _failed(self, key: Key, error: Exception) -> None:
        """A conflict is settled by the event that it announces; of an object that is gone we hear as well."""
        status = error.status if isinstance(error, ApiError) else 0
        if status in (404, 409):
            self._counts.conflicts += 1
            self._holds.failed(key, time.monotonic())
            return
        self._counts.failed += 1
        if isinstance(error, ApiError) and error.failure.reason is Reason.UNINTELLIGIBLE:  # of this object
            self._holds.failed(key, time.monotonic())
        else:
            after = error.failure.retry_after if isinstance(error, ApiError) else 0.0
            self._pause = time.monotonic() + self._backoff.failed(after)
        text = str(error) or "no answer in time"
        if text != self._told:
            self._told = text
            log.warning("the status of %s %s was not written, it is tried again: %s", *key, text)

    def _has_to_wait(self, key: Key) -> bool:
        now = time.monotonic()
        return now < self._pause or self._holds.has_to_wait(key, now)


def _content(plan: Plan) -> tuple[object, ...]:
    return (plan.subject.generation, plan.content)
