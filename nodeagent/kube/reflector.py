"""Follows one kind into its Table."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from nodeagent.config.source import KindState
from nodeagent.kube.api import Api, Failure, Reason
from nodeagent.kube.judging import Item, judge
from nodeagent.kube.kinds import Kind
from nodeagent.kube.list_watch import ListWatch
from nodeagent.kube.records import Page, RecordError, read_event, read_page
from nodeagent.kube.reflection import Wait
from nodeagent.kube.relay import Relay
from nodeagent.kube.table import Table

log = logging.getLogger(__name__)

PAGES = 2  # in memory at a time
FORBIDDEN_FIX = "the agent's ClusterRole must allow get, list and watch"


class Shared:
    """What the reflectors of all kinds have in common.

    `changed` is called after a table changed, and when a kind is synced for the first time.
    """

    def __init__(
        self,
        api: Api,
        node: str,
        changed: Callable[[], None],
        relay: Relay,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.api, self.node, self.changed, self.relay, self.jitter = api, node, changed, relay, jitter
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


class Reflector(ListWatch):
    """`age`: seconds since what the table holds was last known to be current."""

    UNREADABLE = (RecordError,)

    def __init__(self, kind: Kind, table: Table, shared: Shared, age: float = 0.0) -> None:
        super().__init__(shared.api, kind.path, shared.jitter)
        self._kind, self._table, self._shared = kind, table, shared
        self._changed = shared.changed
        self._lost: float | None = time.monotonic() - age  # since when the table may be behind; None = it is not
        self.confirmed = False  # the API server has said everything at least once
        self._told = ""
        self._relisted = False  # and no watch has begun since

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

    async def _wait(self, step: Wait) -> None:
        await self._shared.wait(step)

    async def _page(self, query: Mapping[str, str], *, first: bool) -> tuple[str, str]:
        async with self._shared.pages:
            body = await self._api.get(self._kind.path, query)
            page, items = await asyncio.to_thread(self._judged, body)
        self._shared.answered()
        if first:
            self._table.begin()
        different = [self._table.listed(item) for item in items]
        if any(different):
            self._changed()
        return page.version, page.token

    def _listed(self) -> None:
        if self._table.commit(self._kind.name):
            self._changed()
        self._relisted = True
        self._current()

    def _judged(self, body: bytes) -> tuple[Page, list[Item]]:
        page = read_page(self._kind, body)
        return page, [judge(self._kind, record, self._shared.node, self._table.mark) for record in page.records]

    def _began(self) -> None:
        """Only now others may list for themselves: from here on they hear of every event."""
        self._shared.answered()
        if self._relisted:
            self._relisted = False
            self._shared.relay.missed(self._kind.path)
        self._current()

    def _line(self, line: bytes) -> str | Failure:
        event = read_event(self._kind, line)
        if isinstance(event, Failure):
            return event
        if event.record is not None:
            item = judge(self._kind, event.record, self._shared.node, self._table.mark)
            different = self._table.remove(item.identity) if event.deleted else self._table.put(item)
            if different:
                self._changed()
            self._shared.relay.event(self._kind.path, line)
        return event.version

    def _current(self) -> None:
        if self._lost is not None:
            log.info("%s: %d objects, in sync with %s", self._kind.resource, len(self._table), self._api.server)
        self._lost, self._told = None, ""
        if not self.confirmed:
            self.confirmed = True
            self._changed()

    def _failed(self, failure: Failure) -> None:
        super()._failed(failure)
        if failure.reason is Reason.MISSING and (self._machine.surely_absent or self._table.is_empty):
            self._absent()
        elif self._lost is None:
            self._lost = time.monotonic()
        self._tell(failure)

    def _absent(self) -> None:
        """No CRD, no objects.  What is in force is given up only once a second look has found none either."""
        self._table.begin()
        different = self._table.commit(self._kind.name)
        if different:
            self._shared.relay.missed(self._kind.path)
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
