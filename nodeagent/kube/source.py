"""The API server as a source of objects: implements config.source.Source."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from nodeagent.config.objects import ObjectSet
from nodeagent.config.problems import Problem
from nodeagent.config.resources import Identity
from nodeagent.config.source import Freshness
from nodeagent.kube.api import Api
from nodeagent.kube.cluster import Cluster
from nodeagent.kube.judging import judge
from nodeagent.kube.kinds import BY_NAME, KINDS
from nodeagent.kube.last_good import LastGood
from nodeagent.kube.records import Record, RecordError, decode
from nodeagent.kube.reflector import Reflector, Shared
from nodeagent.kube.relay import Relay
from nodeagent.kube.table import Change

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.005  # changes that come together are compiled together
ALONE_SECONDS = 0.1  # a change so long after the last one is compiled at once: to wait is a wake-up more
SAVE_SECONDS = 5.0  # between two writes of the last good state; one takes 0.7 ms of processor time at least
LISTED_SECONDS = 1.0  # the same while lists are read, of which all that is not written yet is held
CURRENT_SECONDS = 30.0  # and at most, of the time when it was current
PATIENCE = 5.0  # seconds that a start waits for an API server which answers, when there is a last good state
TOPIC = "last good state"


class KubernetesSource:
    def __init__(self, api: Api, state_dir: Path, node: str, relay: Relay) -> None:
        self._api = api
        self._relay = relay
        self._node = node
        self._cluster = Cluster(self._note)
        self._last_good = LastGood(state_dir)
        self._unsaved: dict[tuple[str, str], Change] = {}  # one per object: as many as the cluster has
        self._saved = 0.0  # Unix time: the disk knows that everything was current then
        self._problem: Problem | None = None  # of the disk
        self._dirty = asyncio.Event()
        self._restored = False
        self._given = ObjectSet()
        self._tasks: list[asyncio.Task[None]] = []
        self._reflectors: list[Reflector] = []
        self.noticed = time.monotonic()

    @property
    def name(self) -> str:
        return f"Kubernetes {self._api.server}"

    def freshness(self) -> Freshness:
        reflectors = self._reflectors
        oldest = max(reflectors, key=lambda one: one.stale, default=None)
        return Freshness(
            stale=oldest.stale if oldest else 0.0,
            restored=self._restored and not all(one.confirmed for one in reflectors),
            problem=oldest.state().message if oldest and oldest.stale else "",
            kinds=tuple(one.state() for one in reflectors),
        )

    async def start(self) -> ObjectSet:
        """What the API server has; where it does not answer (soon), the last good state, if there is one.

        Without both it waits: a node that knows no policy must not begin to let requests pass.
        """
        age = await self._restore()
        shared = Shared(self._api, self._node, self._dirty.set, self._relay)
        self._reflectors = [Reflector(kind, self._cluster.tables[kind.name], shared, age) for kind in KINDS]
        self._tasks = [asyncio.create_task(one.run()) for one in self._reflectors]
        self._tasks.append(asyncio.create_task(self._save_changes()))
        for task in self._tasks:
            task.add_done_callback(lambda _task: self._dirty.set())
        until = time.monotonic() + PATIENCE
        while not self._may_begin(until):
            self._begin_change()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._dirty.wait()
        self._begin_change()
        self._given = self._objects()
        return self._given

    def _may_begin(self, until: float) -> bool:
        if all(one.confirmed for one in self._reflectors):
            return True
        in_trouble = any(not one.confirmed and one.problem for one in self._reflectors)
        return self._restored and (in_trouble or time.monotonic() > until)

    async def watch(self) -> AsyncIterator[ObjectSet]:
        while True:
            await self._dirty.wait()
            before, self.noticed = self.noticed, time.monotonic()
            if self.noticed - before < ALONE_SECONDS:
                await asyncio.sleep(SETTLE_SECONDS)
            self._begin_change()
            objects = self._objects()
            if objects is not self._given:
                self._given = objects
                yield objects

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._save()
        await asyncio.to_thread(self._last_good.close)

    def _begin_change(self) -> None:
        """What comes from here on is another one.  A task that ended although it should not tells why."""
        self._dirty.clear()
        for task in self._tasks:
            if task.done():
                task.result()

    def _objects(self) -> ObjectSet:
        return self._cluster.objects((self._problem,) if self._problem else ())

    # ---- the last good state ----

    async def _restore(self) -> float:
        """Its age in seconds: 0 = there is none."""
        try:
            kept = await asyncio.to_thread(self._last_good.load)
        except OSError as error:
            log.warning("%s; until the API server answers, nothing is in force", error)
            return 0.0
        for change in kept.objects:
            for row in (change.good, change.broken):
                if row is not None and change.identity.kind in BY_NAME:
                    self._restore_one(change.identity, row)
        self._restored = bool(kept.objects)
        return max(0.0, time.time() - kept.current_at) if self._restored else 0.0

    def _restore_one(self, identity: Identity, row: bytes) -> None:
        kind = BY_NAME[identity.kind]
        try:
            item = judge(kind, Record(identity.namespace, identity.name, "", decode(row)), self._node)
        except RecordError as error:
            log.warning("the last good state of %s cannot be read: %s", identity, error)
            return
        self._cluster.tables[kind.name].restore(item)

    def _note(self, change: Change) -> None:
        key = (change.identity.kind, change.identity.key)
        self._unsaved[key] = change.after(self._unsaved.get(key))

    async def _save_changes(self) -> None:
        while True:
            is_listed = all(one.confirmed for one in self._reflectors)
            await asyncio.sleep(SAVE_SECONDS if is_listed else LISTED_SECONDS)
            await self._save()

    async def _save(self) -> None:
        """A disk that refuses is a problem to show, not a reason to stop; what was not written is tried again."""
        current_at = self._current_at()
        if not self._unsaved and current_at is None:
            return
        unsaved, self._unsaved = self._unsaved, {}
        try:
            await asyncio.to_thread(self._last_good.save, unsaved.values(), current_at)
            self._saved = current_at or self._saved
            problem = None
        except OSError as error:
            newer, self._unsaved = self._unsaved, unsaved
            for change in newer.values():
                self._note(change)
            text = f"{TOPIC} is not written: {error}; after a restart without an API server it would be missing"
            problem = Problem("", 0, "", text)
        if problem != self._problem:
            self._problem = problem
            self._dirty.set()

    def _current_at(self) -> float | None:
        """Now, if everything is current and the disk does not know it since a while."""
        now = time.time()
        current = self._reflectors and not any(one.stale for one in self._reflectors)
        return now if current and (self._unsaved or now - self._saved > CURRENT_SECONDS) else None
