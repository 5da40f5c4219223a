"""Follows one kind: does what its Reflection says, and puts into its Table what comes of it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from nodeagent.config.source import KindState
from nodeagent.kube.api import Api, ApiError, Failure, Reason
from nodeagent.kube.judging import Item, judge
from nodeagent.kube.kinds import Kind
from nodeagent.kube.records import Event, Page, RecordError, read_event, read_page
from nodeagent.kube.reflection import List, Reflection, Wait, Watch
from nodeagent.kube.table import Table

log = logging.getLogger(__name__)

PAGE = 250  # objects of one answer: 2 MB of pods
PAGES = 2  # in memory at a time
FORBIDDEN_FIX = "the agent's ClusterRole must allow get, list and watch"


class Shared:
    """What the reflectors of all kinds have in common.

    `changed` is called after a table changed, and when a kind is synced for the first time.
    """

    def __init__(
        self, api: Api, node: str, changed: Callable[[], None], jitter: Callable[[], float] = random.random
    ) -> None:
        self.api, self.node, self.changed, self.jitter = api, node, changed, jitter
        self.pages = asyncio.Semaphore(PAGES)
        self._answered = asyncio.Event()

    def answered(self) -> None:
        """Wakes those that wait for the API server: it has answered one of them."""
        self._answered.set()
        self._answered = asyncio.Event()

    async def wait(self, step: Wait) -> None:
        if not step.for_contact:
            await asyncio.sleep(step.seconds)
            return
        try:
            await asyncio.wait_for(self._answered.wait(), step.seconds)
        except TimeoutError:
            return


class Reflector:
    """`age`: seconds since what the table holds was last known to be current."""

    def __init__(self, kind: Kind, table: Table, shared: Shared, age: float = 0.0) -> None:
        self._kind, self._table, self._shared = kind, table, shared
        self._api, self._changed = shared.api, shared.changed
        self._machine = Reflection(shared.jitter)
        self._lost: float | None = time.monotonic() - age  # since when the table may be behind; None = it is not
        self.confirmed = False  # the API server has said everything at least once
        self._told = ""

    @property
    def stale(self) -> float:
        """Seconds that the table may be behind the API server."""
        return 0.0 if self._lost is None else time.monotonic() - self._lost

    @property
    def problem(self) -> Failure | None:
        return self._machine.problem

    def state(self) -> KindState:
        state, message = self._state()
        machine = self._machine
        return KindState(self._kind.name, state, len(self._table), message, machine.relists, machine.failures)

    def _state(self) -> tuple[str, str]:
        problem = self._machine.problem
        if problem is None:
            return ("listing", "") if self._lost is not None else ("synced", "")
        if problem.reason is Reason.MISSING and self._lost is None:
            return "absent", f"{self._kind.resource} is not installed: such objects have no effect; looked for again"
        if problem.reason is Reason.FORBIDDEN:
            return "forbidden", f"{problem.message}; {FORBIDDEN_FIX} {self._kind.resource}"
        return ("away" if self._lost is not None else "synced"), problem.message

    async def run(self) -> None:
        while True:
            match self._machine.step():
                case Wait() as step:
                    await self._shared.wait(step)
                    self._machine.waited()
                case List() as step:
                    await self._guarded(self._list(step))
                case Watch() as step:
                    await self._guarded(self._watch(step))

    async def _guarded(self, asking: Awaitable[None]) -> None:
        try:
            await asking
        except ApiError as error:
            self._failed(error.failure)
        except RecordError as error:
            self._failed(Failure(Reason.UNINTELLIGIBLE, f"{self._api.server}: {error}"))

    async def _list(self, step: List) -> None:
        query = {"limit": str(PAGE), **({"continue": step.token} if step.token else {})}
        async with self._shared.pages:
            body = await self._api.get(self._kind.path, query)
            page, items = await asyncio.to_thread(self._judged, body)
        self._shared.answered()
        if not step.token:
            self._table.begin()
        different = [self._table.listed(item) for item in items]
        if self._machine.listed(page.version, page.token):
            different.append(self._table.commit(self._kind.name))
            self._current()
        if any(different):
            self._changed()

    def _judged(self, body: bytes) -> tuple[Page, list[Item]]:
        page = read_page(self._kind, body)
        return page, [judge(self._kind, record, self._shared.node) for record in page.records]

    async def _watch(self, step: Watch) -> None:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": step.version,
            "timeoutSeconds": str(step.seconds),
        }
        began = time.monotonic()
        async with self._api.stream(self._kind.path, query, step.seconds) as lines:
            self._shared.answered()
            self._machine.watching()
            self._current()
            async for line in lines:
                event = read_event(self._kind, line)
                if isinstance(event, Failure):
                    self._failed(event)
                    return
                self._take(event)
        self._machine.ended(time.monotonic() - began)

    def _take(self, event: Event) -> None:
        if event.record is not None:
            item = judge(self._kind, event.record, self._shared.node)
            different = self._table.remove(item.identity) if event.deleted else self._table.put(item)
            if different:
                self._changed()
        self._machine.advanced(event.version)

    def _current(self) -> None:
        if self._lost is not None:
            log.info("%s: %d objects, in sync with %s", self._kind.resource, len(self._table), self._api.server)
        self._lost, self._told = None, ""
        if not self.confirmed:
            self.confirmed = True
            self._changed()

    def _failed(self, failure: Failure) -> None:
        self._machine.failed(failure)
        if failure.reason is Reason.MISSING and (self._machine.surely_absent or self._table.is_empty):
            self._absent()
        elif self._lost is None:
            self._lost = time.monotonic()
        self._tell(failure)

    def _absent(self) -> None:
        """No CRD, no objects.  What is in force is given up only once a second look has found none either."""
        self._table.begin()
        different = self._table.commit(self._kind.name)
        self._lost = None
        if different or not self.confirmed:
            self.confirmed = True
            self._changed()

    def _tell(self, failure: Failure) -> None:
        """Once per kind of failure, until it works again."""
        if failure.reason is Reason.GONE:
            log.info("%s: listed again: %s", self._kind.resource, failure.message)
        elif self._told != failure.reason.value:
            self._told = failure.reason.value
            state, message = self._state()
            level = logging.INFO if state == "absent" else logging.WARNING
            rest = "" if state == "absent" else "; what was last known stays in force"
            log.log(level, "%s: %s%s", self._kind.resource, message, rest)
